"""What a reader must know before reading the results of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from addnorm.config import INIT_RULES
from addnorm.studies.aggregate import Group
from addnorm.studies.measured import Measured
from addnorm.studies.spec import CompareConfig
from addnorm.studies.statistics import FEWEST
from addnorm.studies.verdict import NOT_EVEN


def notes(spec: CompareConfig, groups: Sequence[Group]) -> list[str]:
    """One sentence or two each."""
    tuned = spec.pick == "best" and len(spec.learning_rates) > 1
    judging = spec.seeds - spec.tuning_seeds * tuned
    comparisons = sum(len(group.members) - 1 for group in groups)
    found = [
        f"Intervals are 95 % Student t over {judging} seeds; differences are paired by seed: in all arms of a seed "
        "the sublayers start from the same weights and see the same batches.",
        f"Each interval is for one comparison. What is called better, worse or equal is corrected for there being "
        f"{2 * comparisons} ({comparisons} at equal tokens, as many at equal time; Holm 1979): of comparisons whose "
        f"schemes differ in nothing, at most {spec.error:.0%} say so of any. Equal: inside ±{spec.margin:g} by two "
        "one-sided tests. Not decided: neither, and how many seeds would decide it stands beside.",
        "Equal time reads every run's validation curve at the time the fastest run of its depth and seed needed for "
        "all its tokens; a slower run is then in the middle of its learning-rate schedule, which costs it more than "
        "its slowness alone. A budget in seconds (--seconds) gives each scheme a whole schedule instead.",
        "All schemes share the learning rate, warm-up and every other setting; a scheme that does not train here may "
        "train with others.",
    ]
    if spec.init not in INIT_RULES:
        found.append(
            f"All runs start from {spec.init}: a scheme that it was not trained under gets its sublayers, and "
            "its norms where both have one at the same place; the rest of its connections is new, which counts against "
            "that scheme."
        )
    if any(curve.stopped for group in groups for item in group.members for curve in item.curves):
        found.append(
            f"Runs whose validation loss had not fallen for {spec.patience} evaluations stopped early (--patience) and "
            "are read at their lowest loss from there on, which is a little low, being the best of several; scores are "
            "of their last step."
        )
    if judging < FEWEST:
        found[0] = f"Fewer than {FEWEST} seeds to judge by: there are no intervals, and nothing is decided."
    if tuned:
        found[3] = (
            f"Each scheme is shown at the best of {len(spec.learning_rates)} learning rates, chosen by the first "
            f"{spec.tuning_seeds} of {spec.seeds} seeds and judged by the others."
        )
    first = _not_even_the_baseline(spec, groups)
    return [first, *found] if first else found


def _not_even_the_baseline(spec: CompareConfig, groups: Sequence[Group]) -> str:
    """What to try where the yardstick itself has learned nothing; empty where it has."""
    bases = [group.baseline_of(group.members[0], spec) for group in groups if group.members]
    bad = [item for item in bases if item.records and not item.trains()]
    if not bad:
        return ""
    depths = " and ".join(f"{item.arm.layers}" for item in bad)
    layers = "layer" if [item.arm.layers for item in bad] == [1] else "layers"
    short = all(item.is_too_short() for item in bad)
    found = "was still too short to tell" if short else "did not train"
    more = "" if short else ", a lower learning rate (--learning-rates), a longer --warm-up"
    return (
        f"{NOT_EVEN}: {spec.baseline} {found} at {depths} {layers}, so nothing is known of the others "
        f"there. Try {_more(spec, bad[0])}{more}."
    )


def _more(spec: CompareConfig, item: Measured) -> str:
    """Four times the budget, as a flag."""
    place = spec.layers.index(item.arm.layers)
    for name in ("seconds", "steps"):
        values = getattr(spec, name)
        if values is not None:
            return f"--{name} {4 * values[place if len(values) > 1 else 0]:g}"
    return f"--tokens {4 * spec.tokens[place if len(spec.tokens) > 1 else 0]}"
