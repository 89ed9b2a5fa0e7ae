"""What a comparison says of one arm: a word, and a sentence with the figures behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from addnorm.studies.decision import BETTER, EQUAL, NOT_DECIDED, WORSE, Decision
from addnorm.studies.statistics import FEWEST, Estimate

BASELINE = "baseline"
DOES_NOT_TRAIN = "does not train"
TOO_SHORT = "too short to tell"
NOT_EVEN = "Not even the baseline"
"""How the note begins that goes before all else."""
NO_RUN = "no run ended"
NOT_ASKED = "Not asked by this comparison"
"""How the answer begins to a question that it has no figures for."""
DECIDED = (BETTER, WORSE, EQUAL, NOT_DECIDED)
"""The words for a difference; the others are for arms that are not compared."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The figures a verdict rests on."""

    baseline: str
    """The scheme it is held against."""
    is_baseline: bool
    trains: bool
    """Whether most runs train and none diverged."""
    too_short: bool
    """Whether the runs were too short to tell if it trains."""
    runs: int
    """How many ended."""
    loss: Estimate
    difference: Estimate | None
    """Paired by seed: this arm less the baseline; negative is better."""
    decision: Decision
    """What is said of the difference, among all of the comparison."""
    decision_at_equal_time: Decision
    margin: float
    """Differences below it do not matter."""
    difference_at_equal_time: Estimate | None
    equal_time_s: float
    share_at_equal_time: float
    """Of its tokens: a slow scheme is then in the middle of its schedule."""
    diagnosis: dict[str, Any]


def verdict(evidence: Evidence) -> tuple[str, str]:
    """The word and the sentence.

    A difference counts where Student's t over the paired differences, corrected for all differences of the comparison,
    says so; with fewer than three seeds nothing is decided.
    """
    if not evidence.runs:
        return NO_RUN, "No run ended: nothing is known of it."
    if not evidence.trains:
        return (TOO_SHORT if evidence.too_short else DOES_NOT_TRAIN), _failure(evidence)
    if evidence.is_baseline:
        return BASELINE, f"The baseline: {with_interval(evidence.loss)} nats a token{_strays(evidence)}."
    word = evidence.decision.word
    text = f"{_sentence(word, evidence)}; {_charged(evidence)}{_strays(evidence)}."
    return word, text[0].upper() + text[1:]


def beside(difference: Estimate, other: str) -> str:
    """A difference of losses in words, decided or not.

    >>> beside(Estimate(mean=0.246, half_width=0.327, n=3), "pre-norm")
    '0.246 ± 0.327 (n = 3) nats a token worse than pre-norm'
    """
    size = with_interval(replace(difference, mean=abs(difference.mean)))
    return f"{size} nats a token {'better' if difference.mean < 0 else 'worse'} than {other}"


def _seeds(decision: Decision, difference: Estimate) -> str:
    """How many seeds would decide."""
    if difference.n < FEWEST:
        return f", which takes {FEWEST} seeds at least"
    if decision.seeds is None:
        return ", and no number of seeds below 1,000 would"
    return f"; about {decision.seeds} seeds would, if it stays so"


def with_interval(value: Estimate, *, signed: bool = False) -> str:
    """A mean with its interval and the number of seeds.

    >>> with_interval(Estimate(mean=-0.0421, half_width=0.0213, n=3), signed=True)
    '-0.042 ± 0.021 (n = 3)'
    >>> with_interval(Estimate(mean=2.5, half_width=None, n=1))
    '2.500 (n = 1, no interval)'
    """
    mean = f"{value.mean:+.3f}" if signed else f"{value.mean:.3f}"
    if value.half_width is None:
        return f"{mean} (n = {value.n}, no interval)"
    return f"{mean} ± {value.half_width:.3f} (n = {value.n})"


def _sentence(word: str, evidence: Evidence) -> str:
    if evidence.difference is None or not math.isfinite(evidence.difference.mean):
        return f"{with_interval(evidence.loss)} nats a token; {evidence.baseline} gives nothing to compare with"
    difference = evidence.difference
    if word == NOT_DECIDED:
        return f"not decided: {beside(difference, evidence.baseline)}{_seeds(evidence.decision, difference)}"
    if word == EQUAL:
        return (
            f"equal to {evidence.baseline} within {evidence.margin:g}: {with_interval(difference, signed=True)} "
            "nats a token"
        )
    size = replace(difference, mean=abs(difference.mean))
    return f"{word} than {evidence.baseline} by {with_interval(size)} nats a token"


def _charged(evidence: Evidence) -> str:
    """The same comparison at equal time."""
    difference = evidence.difference_at_equal_time
    if difference is None or not math.isfinite(difference.mean):
        return "not compared at equal time"
    share = evidence.share_at_equal_time
    place = f"after {evidence.equal_time_s:.1f} s of training" + (
        f", {share:.0%} of its tokens" if share < 0.995 else ""
    )
    return f"{place}: {evidence.decision_at_equal_time.word}, {with_interval(difference, signed=True)}"


def _failure(evidence: Evidence) -> str:
    """What went wrong, where it begins, and the figure that says so."""
    found = evidence.diagnosis
    share = f"{found['seeds']} of {evidence.runs} {'seed' if evidence.runs == 1 else 'seeds'}"
    where = "" if found.get("site") is None else f", from sublayer {found['site']} on"
    figure = f": {found['figure']}" if found.get("figure") else ""
    text = f"{found['kind']} in {share}{where}{figure}; mean loss {with_interval(evidence.loss)} nats a token."
    return text[0].upper() + text[1:]


def _strays(evidence: Evidence) -> str:
    """What ails some seeds of an arm that trains."""
    found = evidence.diagnosis
    if found["kind"] == "trains":
        return ""
    return f"; {found['seeds']} of {evidence.runs} seeds: {found['kind']} ({found['figure']})"
