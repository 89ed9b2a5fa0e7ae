"""The learning rate as a function of the share of the budget that is used up."""

from __future__ import annotations

import math
from typing import Literal

FLOOR = 0.1
"""What cosine, linear and wsd fall to, as a share of the peak."""


def factor(
    progress: float, warm_up: float, schedule: Literal["cosine", "linear", "wsd", "constant"], decay: float = 0.2
) -> float:
    """The learning rate as a share of its peak.

        progress < warm_up:  progress / warm_up
        after it, with u = (progress - warm_up) / (1 - warm_up):
        cosine:    FLOOR + (1 - FLOOR) (1 + cos(pi u)) / 2
        linear:    FLOOR + (1 - FLOOR) (1 - u)
        wsd:       1, and with v = (progress - 1 + decay) / decay > 0:  FLOOR + (1 - FLOOR) (1 - sqrt(v))
        constant:  1

    wsd (warm-up, stable, decay) is the schedule of MiniCPM (Hu et al. 2024, arXiv:2404.06395) with the decay that
    Haegele et al. (2024, arXiv:2405.18392) found best. Until the decay begins, the rate does not depend on the budget.

    Args:
        progress: share of the budget used up, 0 to 1; of tokens at the end of the step, or of seconds.
        warm_up: share of the budget in which the learning rate rises.
        schedule: what it does afterwards.
        decay: share of the budget at its end in which wsd falls; 0 is never.

    >>> [round(factor(progress, 0.5, "cosine"), 3) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.55, 0.1]
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warm_up:
        return progress / warm_up
    return FLOOR + (1 - FLOOR) * _left(progress, warm_up, schedule, decay)


def _left(progress: float, warm_up: float, schedule: str, decay: float) -> float:
    """How much of the way down to the floor is left, 1 to 0."""
    if schedule == "constant" or (schedule == "wsd" and progress <= 1 - decay):
        return 1.0
    if schedule == "wsd":
        return 1 - math.sqrt((progress - 1 + decay) / decay)
    used = (progress - warm_up) / (1 - warm_up)
    return (1 + math.cos(math.pi * used)) / 2 if schedule == "cosine" else 1 - used
