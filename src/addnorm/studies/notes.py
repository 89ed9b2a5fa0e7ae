"""What a reader must know before reading the results of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from addnorm.config import INIT_RULES
from addnorm.studies.aggregate import Group
from addnorm.studies.spec import CompareConfig


def notes(spec: CompareConfig, groups: Sequence[Group]) -> list[str]:
    """One sentence or two each."""
    comparisons = sum(len(group.members) - 1 for group in groups)
    found = [
        f"Intervals are 95 % Student t over {spec.seeds} seeds; differences are paired by seed: in all arms of a seed "
        "the sublayers start from the same weights and see the same batches.",
        f"Each interval is for one comparison and none is corrected for there being {comparisons}: of as many schemes "
        "that differ in nothing, about one in twenty would be called better or worse.",
        "Equal time reads every run's validation curve at the time the fastest run of its depth and seed needed for "
        "all its tokens; a slower run is then in the middle of its learning-rate schedule, which costs it more than "
        "its slowness alone. A budget in seconds (--seconds) gives each scheme a whole schedule instead.",
        "All schemes share the learning rate, warm-up and every other setting; a scheme that does not train here may "
        "train with others.",
    ]
    if spec.init not in INIT_RULES:
        found.append(
            f"All runs start from {spec.init}: a scheme that it was not trained under gets its sublayers alone, "
            "under new connections (norms, gates), which counts against that scheme."
        )
    if spec.seeds == 1:
        found[0] = "One seed: there are no intervals, and no difference can be called seen."
    if spec.pick == "best" and len(spec.learning_rates) > 1:
        found[3] = (
            f"Each scheme is shown at the best of {len(spec.learning_rates)} learning rates, chosen by the same losses "
            "that are reported, which flatters all schemes a little."
        )
    return found
