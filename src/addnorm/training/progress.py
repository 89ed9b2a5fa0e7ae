"""How far a run is, for whoever watches it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from addnorm.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, for whoever watches it.

    Args:
        step: steps taken.
        steps: steps the run will have; an estimate for a budget of seconds.
        tokens: training tokens seen.
        wall_s: seconds of training, without measuring and saving.
        loss: of the last step.
        eta_s: seconds to the end, at the pace so far; None before there is a pace.
    """

    step: int
    steps: int
    tokens: int
    wall_s: float
    loss: float
    eta_s: float | None


def reporter(on_progress: Callable[[Progress], None] | None) -> Callable[[Trainer], None]:
    """Tell the caller how far the run is; the time left counts measuring and saving too."""
    began: list[float] = []

    def report(trainer: Trainer) -> None:
        if on_progress is None:
            return
        done, now = trainer.progress, time.perf_counter()
        if not began:
            began.extend((done, now))  # an earlier process may have trained the share before
        pace = (now - began[1]) / (done - began[0]) if done > began[0] else None
        on_progress(
            Progress(
                step=trainer.at.step,
                steps=trainer.budget.expected_steps(trainer.at.step, trainer.clock.wall_s),
                tokens=trainer.tokens,
                wall_s=trainer.clock.wall_s,
                loss=trainer.at.loss,
                eta_s=None if pace is None else pace * (1 - done),
            )
        )

    return report
