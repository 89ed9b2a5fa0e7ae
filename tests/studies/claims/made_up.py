"""Made-up measurements: what an experiment would have had to find."""

from __future__ import annotations

from collections.abc import Callable

from addnorm.studies.claim import Line


def line(function: Callable[[float], float], places, seeds: int = 3) -> Line:
    """A line that follows a function of its place; the seeds differ by a thousandth."""
    return Line(
        label="made up", points={x: tuple(function(x) * (1 + 1e-3 * seed) for seed in range(seeds)) for x in places}
    )
