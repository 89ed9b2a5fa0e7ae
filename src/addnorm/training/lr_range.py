"""A learning-rate range test: one short run whose rate rises until the loss does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from addnorm import tasks
from addnorm.config import RunConfig, Sweep
from addnorm.training.accumulation import BatchGradient
from addnorm.training.arithmetic import enough_memory, flushed_denormals
from addnorm.training.initial import initial
from addnorm.training.optimizer import Optimizer
from addnorm.training.seeding import seeded

SMOOTHING = 0.9
"""Decay, a step, of the mean that is taken over the losses."""
RISE = 1.3
"""The test ends where the smoothed loss is so many times the loss at the start."""


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """What a range test has seen.

    Args:
        rates, losses: of each step, the loss before its update.
        smoothed: the mean over the losses so far, late ones weighing more.
        suggested: a peak rate for a run; None where no rate lowered the loss.
        lowest: the rate with the lowest smoothed loss; None likewise.
        diverged: the rate at which the test was ended, because the loss rose beyond its first value or was no number.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: float | None
    lowest: float | None
    diverged: float | None


def range_test(
    config: RunConfig, sweep: Sweep | None = None, on_point: Callable[[int, int, float], None] | None = None
) -> RangeTest:
    """Train a run's model on its batches at rising rates; nothing is written.

        rate_i = low (high / low)^(i / (points - 1));   smoothed_i = sum_j 0.9^(i-j) loss_j / sum_j 0.9^(i-j)
        suggested = the rate at which d smoothed / d ln rate is lowest

    The test is Smith's (2015, arXiv:1506.01186): a rate is usable where the loss falls while it is applied. The rate of
    the steepest fall lies below that of the lowest loss, at which training is already about to break. Warm-up,
    schedule, averages and rollback have no part in it; clipping, accumulation and precision are the run's.

    Args:
        config: model, data, batch, optimizer.
        sweep: the rates.
        on_point: told the steps done, the steps in all and the smoothed loss.

    Raises:
        UserError: the data or the model are not allowed.
    """
    sweep = sweep or Sweep()
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    with seeded(config.seed), flushed_denormals(), enough_memory(config):
        step = stepper(config)
        for point in range(sweep.points):
            rates.append(sweep.rate(point))
            losses.append(step(point, rates[-1]))
            smoothed.append(_smooth(smoothed[-1] if smoothed else 0.0, losses[-1], point))
            if on_point is not None:
                on_point(point + 1, sweep.points, smoothed[-1])
            if not math.isfinite(losses[-1]) or smoothed[-1] > _ceiling(smoothed[0]):
                break
    return _read(rates, losses, smoothed, sweep.points)


def stepper(config: RunConfig) -> Callable[[int, float], float]:
    """One step at a rate, on the run's own model and batches; gives the loss before its update."""
    problem = tasks.prepare(config)
    model, _ = initial(problem)
    optimizer, gradient = Optimizer(model.train(), config), BatchGradient(config, problem)

    def step(point: int, rate: float) -> float:
        loss = gradient.backward(model, problem.train_batch(point))
        norm = optimizer.gradient_norm().item()
        if not math.isfinite(norm):
            return math.nan
        if 0 < config.clip_norm < norm:
            optimizer.scale_gradient(config.clip_norm / norm)
        optimizer.step(rate)
        getattr(model, "after_step_", _nothing)()
        optimizer.clear_gradient()
        return loss

    return step


def _smooth(before: float, loss: float, point: int) -> float:
    """The weighted mean with one more loss; without a memory of what stood before the first."""
    weight = (1 - SMOOTHING) / (1 - SMOOTHING ** (point + 1))
    return before + weight * (loss - before)


def _ceiling(first: float) -> float:
    return first + (RISE - 1) * abs(first)


def _read(rates: list[float], losses: list[float], smoothed: list[float], points: int) -> RangeTest:
    """Where the loss fell fastest, between the start and its lowest value."""
    finite = [loss for loss in smoothed if math.isfinite(loss)]
    bottom = min(range(len(finite)), key=finite.__getitem__, default=0)
    falls = [finite[i + 1] - finite[i - 1] for i in range(1, bottom)]
    steepest = None if not falls or min(falls) >= 0 else 1 + min(range(len(falls)), key=falls.__getitem__)
    return RangeTest(
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        suggested=None if steepest is None else rates[steepest],
        lowest=None if steepest is None else rates[bottom],
        diverged=rates[-1] if len(rates) < points or len(finite) < len(smoothed) else None,
    )


def _nothing() -> None:
    """For models whose weights no scheme constrains."""
