"""Means with their intervals, and differences and ratios paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

CONFIDENCE = 0.95
FEWEST = 3
"""Values that an interval needs: with two, Student's t takes 12.7 standard errors to each side, which tells nothing."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its interval.

    Args:
        mean: of the values; infinite or not a number if a value is (a run that diverged).
        half_width: half of the 95 % interval; None for fewer than three values, and where a value is not finite.
        n: how many values.
    """

    mean: float
    half_width: float | None
    n: int

    def excludes(self, value: float) -> bool:
        """Whether the interval is known and the value lies outside."""
        return self.half_width is not None and abs(self.mean - value) > self.half_width

    def standard_error(self) -> float | None:
        """Of the mean; None where there is no interval."""
        return None if self.half_width is None else self.half_width / t_quantile(self.n - 1)

    def p_value(self, value: float = 0.0) -> float:
        """The probability of a mean at least so far from `value` on either side, if that were the true one.

        1 where there is no interval.

        >>> round(Estimate(mean=2.0, half_width=2.4841, n=3).p_value(), 3)
        0.074
        """
        error = self.standard_error()
        return 1.0 if error is None else tail(self.mean - value, error, self.n - 1)

    def p_outside(self, margin: float) -> float:
        """The larger of two one-sided p-values: that the true mean is at or beyond `margin`, to one side or the other.

        Schuirmann 1987, doi:10.1007/BF01068419. Below 0.05 exactly where the 90 % interval lies inside `± margin`.
        """
        error = self.standard_error()
        if error is None or abs(self.mean) >= margin:
            return 1.0
        return tail(margin - abs(self.mean), error, self.n - 1) / 2

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of some values with the interval of Student's t: `mean ± t(0.975, n - 1) s / sqrt(n)`.

    Student 1908. A handful of seeds is too few to resample: a bootstrap of 3 values has 10 distinct outcomes and its
    intervals are too narrow, so there is none here.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, half_width=2.484..., n=3)
    """
    n = len(values)
    if n == 0:
        return Estimate(mean=math.nan, half_width=None, n=0)
    mean = math.fsum(values) / n if all(map(math.isfinite, values)) else sum(values)
    if n < FEWEST or not math.isfinite(mean):
        return Estimate(mean=mean, half_width=None, n=n)
    half = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(mean=mean, half_width=half, n=n)


def paired_difference(these: Mapping[int, float], those: Mapping[int, float]) -> Estimate | None:
    """The mean of `these - those` over the seeds that both have; None without a common seed.

    What the seed does to both (the batches, the initial sublayers) cancels, so its interval is narrower than one of two
    independent means.

    >>> paired_difference({0: 2.5, 1: 2.7, 2: 2.6}, {0: 2.0, 1: 2.2, 2: 2.1}).half_width < 1e-9
    True
    """
    seeds = sorted(these.keys() & those.keys())
    return estimate([these[seed] - those[seed] for seed in seeds]) if seeds else None


def paired_ratio(these: Mapping[int, float], those: Mapping[int, float]) -> Estimate | None:
    """The mean of `these / those` over the seeds that both have; None without a common seed.

    Plain ratios, not logarithms: their interval is symmetric and can be written as ±, and for the speeds compared here,
    which vary by a tenth, both agree to a percent.
    """
    seeds = sorted(these.keys() & those.keys())
    return estimate([_ratio(these[seed], those[seed]) for seed in seeds]) if seeds else None


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Each p-value adjusted for there being others: at most 5 % of families hold one below 0.05 that is so by chance.

    The smallest counts as often as there are values, the next once less, and none falls below one before it. Holm 1979,
    jstor:4615733. Nothing is assumed of how the values depend on each other.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    found, largest = {}, 0.0
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        found[key] = largest
    return found


def tail(distance: float, standard_error: float, degrees: int) -> float:
    """`P(|T| >= distance / standard_error)` for Student's T."""
    if standard_error == 0:
        return 0.0 if distance else 1.0
    return max(0.0, 1 - _within(math.atan(abs(distance) / standard_error / math.sqrt(degrees)), degrees))


@cache
def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The t below which |T| stays with the given probability: `P(|T| <= t) = confidence`, for Student's T.

    With `t = sqrt(degrees) tan(angle)` that probability is a finite sum of sines and cosines (Abramowitz and Stegun
    1964, 26.7.3 and 26.7.4) and rises with the angle, so halving finds it.

    >>> round(t_quantile(2), 4)
    4.3027
    """
    assert degrees >= 1 and 0 < confidence < 1
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _within(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _within(angle: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) tan(angle))."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _ratio(this: float, that: float) -> float:
    return this / that if that else math.nan
