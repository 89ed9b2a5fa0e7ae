"""Whether a run needs a warm-up: two short ones, with and without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.training.arithmetic import enough_memory, flushed_denormals
from addnorm.training.lr_range import stepper
from addnorm.training.seeding import seeded

STEPS = 100
LAST = 10
"""Steps over whose losses the mean is taken at the end."""
MARGIN = 0.1
"""Nats by which a run must be ahead of the other, or of what knows how often each target comes, to have learned."""


Verdict = Literal["needed", "not needed", "stalls with one too"]


@dataclass(frozen=True, kw_only=True)
class WarmUpTest:
    """What the two runs came to.

    Args:
        rate: the peak learning rate of both.
        without, with_ramp: mean loss over the last steps; infinite where it was no number.
        chance: the loss of what knows how often each target comes, and nothing else.
    """

    rate: float
    without: float
    with_ramp: float
    chance: float

    @property
    def verdict(self) -> Verdict:
        """Whether the full rate from the first step did harm: the other run has had three quarters of it."""
        if min(self.without, self.with_ramp) > self.chance - MARGIN:
            return "stalls with one too"
        return "needed" if self.without > self.with_ramp + MARGIN else "not needed"


def warm_up_test(config: RunConfig, rate: float, steps: int = STEPS) -> WarmUpTest:
    """Train a run's model at one rate from the first step, and afresh with the rate rising over the first half.

    A layer whose norm stands after the addition gets large gradients before training, and a full step on them takes it
    to where it does not come back from (Xiong et al. 2020, arXiv:2002.04745).

    Args:
        config: model, data, batch, optimizer.
        rate: the peak learning rate.
        steps: of each run.
    """
    ramp = [rate * min(1.0, 2 * (step + 1) / steps) for step in range(steps)]
    without, with_ramp = (_loss(config, rates) for rates in ([rate] * steps, ramp))
    chance = tasks.prepare(config).chance_loss
    return WarmUpTest(rate=rate, without=without, with_ramp=with_ramp, chance=chance)


def _loss(config: RunConfig, rates: list[float]) -> float:
    with seeded(config.seed), flushed_denormals(), enough_memory(config):
        step = stepper(config)
        losses = [step(place, rate) for place, rate in enumerate(rates)]
    end = losses[-LAST:]
    return sum(end) / len(end) if all(map(math.isfinite, losses)) else math.inf
