"""Whether time and memory grow with depth as they should: in a straight line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from addnorm.bench.alternation import alternate
from addnorm.bench.language_models import Size, loss, our_model, our_step
from addnorm.bench.ratios import Spread, spread
from addnorm.bench.row import Figure, Goal, OnProgress, Result, Row, Times
from addnorm.probes.memory import activation_bytes

ALIKE = 100
"""Layers that a turn goes through at least, in several steps of a shallow network: a short turn is a noisy one."""


@dataclass(frozen=True, kw_only=True)
class Depth(Row):
    """How far the step time and the saved bytes of 10 to 1,000 layers lie from a straight line.

    What holds it back: weights, moments and activations of a shallow network stay in the last cache, those of a deep
    one come from memory for every layer; so a layer takes longer in deep networks, and equally long in all of those.
    """

    rounds: int = 5
    layers: tuple[int, ...] = (10, 30, 100, 300, 1000)
    size: Size = Size(d_model=64, num_heads=4, vocab_size=256, batch=4, context=128)
    goal: Goal = Goal(target=0.05, better="lower")

    number: ClassVar[int] = 10
    title: ClassVar[str] = "10 to 1,000 layers"
    measures: ClassVar[str] = (
        "DeepNorm, d=64, 4 heads, 512 tokens (4 x 128), 10, 30, 100, 300 and 1,000 layers: the float32 training step, "
        "and the bytes that the forward keeps for the backward. The figure is the largest relative distance of a "
        "point from the straight line a + b x layers that fits best relatively."
    )

    def measure(self, progress: OnProgress) -> Result:
        """All depths in turns; a line through each round."""
        models = {depth: our_model(replace(self.size, num_layers=depth), "deep-norm") for depth in self.layers}
        saved = [activation_bytes(model.train(), self.size.tokens(), loss) for model in models.values()]
        repeats = {f"{depth} layers": max(1, ALIKE // depth) for depth in self.layers}
        steps = [our_step(model, self.size) for model in models.values()]
        arms = {name: _repeated(step, count) for step, (name, count) in zip(steps, repeats.items(), strict=True)}
        measured = alternate(arms, self.rounds, progress)
        times = {name: _each(taken, repeats[name]) for name, taken in measured.items()}
        figures = (
            Figure(
                label="step time, largest distance from a line",
                value=self._distances(list(times.values()), "cpu_s"),
                wall=self._distances(list(times.values()), "wall_s"),
                goal=self.goal,
                unit="",
            ),
            Figure(
                label="saved bytes, largest distance from a line",
                value=spread([distance_from_line(self.layers, saved)]),
                goal=self.goal,
                unit="",
            ),
        )
        return Result(figures=figures, rounds=times)

    @classmethod
    def quick(cls) -> Self:
        """Up to eight narrow layers."""
        size = Size(d_model=16, num_heads=2, vocab_size=64, batch=1, context=16)
        return cls(rounds=2, layers=(2, 4, 8), size=size)

    def _distances(self, arms: Sequence[Times], clock: str) -> Spread:
        by_round = zip(*(getattr(arm, clock) for arm in arms), strict=True)
        return spread([distance_from_line(self.layers, seconds) for seconds in by_round])


def _repeated(step: Callable[[], None], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            step()

    return run


def _each(taken: Times, count: int) -> Times:
    """The times of one step."""
    return Times(cpu_s=[s / count for s in taken.cpu_s], wall_s=[s / count for s in taken.wall_s])


def distance_from_line(xs: Sequence[float], ys: Sequence[float]) -> float:
    """`max |a + b x - y| / y` for the line with the least sum of `((a + b x - y) / y)^2`.

    Relative, or the deepest network alone would decide.

    >>> distance_from_line([1, 2, 4], [5.0, 7.0, 11.0]) < 1e-12
    True
    """
    weights = [y**-2 for y in ys]
    total = sum(weights)
    x_mean = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
    y_mean = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
    points = list(zip(weights, xs, ys, strict=True))
    slope = sum(w * (x - x_mean) * (y - y_mean) for w, x, y in points)
    slope /= sum(w * (x - x_mean) ** 2 for w, x, _ in points)
    return max(abs(y_mean + slope * (x - x_mean) - y) / y for _, x, y in points)
