"""Medians with their quartiles, of single measurements and of ratios paired by round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What several rounds gave.

    Args:
        median: the middle one.
        low, high: the quartiles, interpolated between the values as they lie; equal to the median for one round.
        n: how many rounds.
    """

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles: a disturbed round moves them little, and a mean and its deviation much.

    >>> spread([1.0, 2.0, 3.0, 4.0, 50.0])
    Spread(median=3.0, low=2.0, high=4.0, n=5)
    """
    if len(values) == 1:
        return Spread(median=values[0], low=values[0], high=values[0], n=1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high, n=len(values))


def paired_ratio(these: Sequence[float], those: Sequence[float]) -> Spread:
    """`these / those` round by round: what slows the machine for a while slows both, and the ratio stays.

    >>> paired_ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]).median
    2.0
    """
    return spread([this / that for this, that in zip(these, those, strict=True)])
