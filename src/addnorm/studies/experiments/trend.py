"""How a measured quantity changes along its axis."""

from __future__ import annotations

import math

from addnorm.studies.claim import Line
from addnorm.studies.statistics import Estimate, estimate


def power(line: Line) -> Estimate:
    """The exponent p of `y ~ x^p`: for each seed the least-squares slope of log y over log x.

    >>> power(Line(label="", points={1: (2.0, 3.0), 4: (1.0, 1.5)})).mean
    -0.5
    """
    return estimate([_slope(points) for points in line.by_seed()])


def ratio_of_ends(line: Line) -> Estimate:
    """The value at the last place over that at the first, seed by seed."""
    return estimate([points[-1][1] / points[0][1] if points[0][1] else math.nan for points in line.by_seed()])


def _slope(points: list[tuple[float, float]]) -> float:
    if any(not (x > 0 and y > 0 and math.isfinite(y)) for x, y in points):
        return math.nan
    logs = [(math.log(x), math.log(y)) for x, y in points]
    x_mean = sum(x for x, _ in logs) / len(logs)
    y_mean = sum(y for _, y in logs) / len(logs)
    spread = sum((x - x_mean) ** 2 for x, _ in logs)
    return sum((x - x_mean) * (y - y_mean) for x, y in logs) / spread
