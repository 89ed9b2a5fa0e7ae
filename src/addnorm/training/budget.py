"""How much of a run is done, and what falls due at even shares of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from addnorm.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Tokens, in whole steps, or seconds of training.

    Args:
        tokens_per_step: training tokens of one step.
        steps: the budget in steps; the last one may go beyond the tokens asked for.
        seconds: the budget in seconds; it counts instead of steps where it is given.
    """

    tokens_per_step: int
    steps: int
    seconds: float | None

    @classmethod
    def of(cls, config: RunConfig, tokens_per_step: int) -> Budget:
        """The budget that a config asks for, in steps of so many tokens."""
        steps = config.steps or math.ceil(config.tokens / tokens_per_step)
        return cls(tokens_per_step=tokens_per_step, steps=steps, seconds=config.seconds)

    def progress(self, step: int, wall_s: float) -> float:
        """The share used up after `step` steps and `wall_s` seconds, 0 to 1."""
        return min(step / self.steps if self.seconds is None else wall_s / self.seconds, 1.0)

    def expected_steps(self, step: int, wall_s: float) -> int:
        """How many steps the run will have; for a budget of seconds, at the pace so far."""
        if self.seconds is None:
            return self.steps
        return max(step, round(step * self.seconds / wall_s)) if wall_s else step


def shares(progress: float, parts: int) -> int:
    """How many of `parts` even shares of the budget are over.

    >>> [shares(step / 30, 10) for step in (0, 2, 3, 29, 30)]
    [0, 0, 1, 9, 10]
    """
    return math.floor(progress * parts + 1e-9)  # 3 / 30 * 10 may come out just below 1
