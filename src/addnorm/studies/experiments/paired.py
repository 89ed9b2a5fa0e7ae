"""What a difference that is paired by seed says about an effect of a known size."""

from __future__ import annotations

import math

from addnorm.studies.claim import Line, Verdict
from addnorm.studies.statistics import Estimate, paired_difference


def last_difference(this: Line, that: Line) -> Estimate:
    """`this - that` at the last place, seed by seed."""
    ends = [dict(enumerate(line.points[max(line.points)])) for line in (this, that)]
    found = paired_difference(ends[0], ends[1])
    assert found is not None
    return found


def better_by(difference: Estimate, effect: float) -> Verdict:
    """Whether a difference of losses shows that one is better, as the paper says, by some `effect`.

    An interval below zero reproduces it. One that reaches over both zero and the effect cannot tell them apart, and the
    experiment is too small; any other contradicts.

    >>> better_by(Estimate(mean=-0.05, half_width=0.02, n=5), effect=0.03)
    'reproduced'
    >>> better_by(Estimate(mean=-0.01, half_width=0.03, n=5), effect=0.03)
    'not testable at this size'
    >>> better_by(Estimate(mean=0.01, half_width=0.02, n=5), effect=0.03)
    'not reproduced'
    """
    half = difference.half_width
    if math.isinf(difference.mean):  # one of the two diverged
        return "reproduced" if difference.mean < 0 else "not reproduced"
    if half is None:
        return "not testable at this size"
    if difference.mean + half < 0:
        return "reproduced"
    covers_both = difference.mean - half <= -effect and difference.mean + half >= 0
    return "not testable at this size" if covers_both else "not reproduced"
