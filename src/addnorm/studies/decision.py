"""Better, worse, equal within a margin, or not decided: for all differences of a family together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from addnorm.studies.statistics import Estimate, holm, t_quantile

BETTER = "better"
WORSE = "worse"
EQUAL = "equal"
NOT_DECIDED = "not decided"

ERROR = 0.05
"""How often a family of differences may hold one that is called better, worse or equal and is not."""
MOST_SEEDS = 1000
"""Beyond which nobody is told how many would decide."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is said of one difference.

    Args:
        word: one of four.
        p_value: of the difference being zero, adjusted for the family.
        p_outside: of its being at or beyond the margin, adjusted for the family.
        seeds: how many would decide it, if spread and mean stay as they are; None if it is decided, if nothing is known
            of the spread, or beyond `MOST_SEEDS`.
    """

    word: str
    p_value: float = 1.0
    p_outside: float = 1.0
    seeds: int | None = None


def decide(
    differences: Mapping[Any, Estimate | None], margin: float, *, error: float = ERROR, family: int | None = None
) -> dict[Any, Decision]:
    """One decision for each difference (negative is better).

    Equal: two one-sided tests say that it lies inside `± margin`; better or worse: it is not zero. Both are corrected
    for the number of differences by Holm's method: at most `error` of such families hold a "better" or "worse" where
    there is no difference, and as many an "equal" where there is one as large as the margin.

    Args:
        differences: by any key; None where there is nothing to compare.
        margin: differences below it do not matter.
        error: of the whole family.
        family: how many differences there are if these are a part of them.

    >>> decide({"a": Estimate(mean=-0.2, half_width=0.1, n=8)}, 0.01)["a"].word
    'better'
    """
    known = {key: value for key, value in differences.items() if value is not None and value.half_width is not None}
    many = max(family or 0, len(known))
    more = many / len(known) if known else 1.0
    apart = {key: min(1.0, p * more) for key, p in holm({key: v.p_value() for key, v in known.items()}).items()}
    outside = {key: min(1.0, p * more) for key, p in holm({k: v.p_outside(margin) for k, v in known.items()}).items()}
    found = dict.fromkeys(differences, Decision(word=NOT_DECIDED))
    for key, value in known.items():
        word = _word(value, apart[key], outside[key], error)
        seeds = seeds_to_decide(value, margin, error / max(many, 1)) if word == NOT_DECIDED else None
        found[key] = Decision(word=word, p_value=apart[key], p_outside=outside[key], seeds=seeds)
    return found


def seeds_to_decide(difference: Estimate, margin: float, error: float) -> int | None:
    """How many seeds would decide a difference whose mean and spread stay as they are; None beyond `MOST_SEEDS`."""
    standard_error = difference.standard_error()
    if standard_error is None:
        return None
    spread, size = standard_error * math.sqrt(difference.n), abs(difference.mean)
    for n in range(difference.n + 1, MOST_SEEDS + 1):
        reach = spread / math.sqrt(n)
        if t_quantile(n - 1, 1 - error) * reach < size or t_quantile(n - 1, 1 - 2 * error) * reach < margin - size:
            return n
    return None


def _word(difference: Estimate, apart: float, outside: float, error: float) -> str:
    if outside < error:
        return EQUAL
    if apart < error:
        return BETTER if difference.mean < 0 else WORSE
    return NOT_DECIDED
