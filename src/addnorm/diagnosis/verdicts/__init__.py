"""What may be wrong with a model, one cause per file: each looks at the evidence and names places.

A cause that explains another goes first: where values are not finite nothing else is said, and of one sublayer only
the first cause is.
"""

from __future__ import annotations

from collections.abc import Callable

from addnorm.diagnosis.evidence import Evidence
from addnorm.diagnosis.finding import Finding
from addnorm.diagnosis.verdicts.branch_scale import branch_scale
from addnorm.diagnosis.verdicts.dead_gate import dead_gate
from addnorm.diagnosis.verdicts.gradient_by_depth import gradient_by_depth
from addnorm.diagnosis.verdicts.non_causal import non_causal
from addnorm.diagnosis.verdicts.non_finite import non_finite
from addnorm.diagnosis.verdicts.norm_placement import norm_placement
from addnorm.diagnosis.verdicts.rank_collapse import rank_collapse
from addnorm.diagnosis.verdicts.skip import skip

Look = Callable[[Evidence], list[Finding]]
LOOKED_AT: tuple[Look, ...] = (
    skip,
    dead_gate,
    norm_placement,
    branch_scale,
    rank_collapse,
    gradient_by_depth,
)


def verdicts(evidence: Evidence, *, causal: bool | None = None) -> list[Finding]:
    """All that is wrong, by depth.

    Args:
        evidence: of one batch.
        causal: whether tokens may see later ones; None = as most sublayers that mix tokens do.
    """
    broken = non_finite(evidence)
    if broken:
        return broken
    found: dict[tuple[str, int | None], Finding] = {}
    for finding in [*non_causal(evidence, causal), *(each for look in LOOKED_AT for each in look(evidence))]:
        found.setdefault((finding.place, finding.site), finding)
    return sorted(found.values(), key=lambda finding: -1 if finding.site is None else finding.site)
