"""NaN and infinity: the first place."""

from __future__ import annotations

from addnorm.diagnosis.evidence import Evidence
from addnorm.diagnosis.finding import Finding
from addnorm.diagnosis.verdicts.peers import some


def non_finite(evidence: Evidence) -> list[Finding]:
    """The first sublayer that makes a value that is not finite, or a parameter that is none."""
    for line in evidence.lines:
        for i, site in enumerate(line.sites):
            if not site.finite:
                bad = [name for name in evidence.bad_parameters if name in site.sublayer.parameters]
                why = (
                    f"{some(bad)} hold NaN or infinity." if bad else f"the first in {evidence.non_finite or site.name}."
                )
                return [_finding(site.name, i, f"what it writes or makes is not finite: {why}", bool(bad))]
    if evidence.bad_parameters:
        what = f"{some(evidence.bad_parameters)} hold NaN or infinity."
        return [_finding(evidence.bad_parameters[0].rpartition(".")[0], None, what, True)]
    if evidence.non_finite is not None and not evidence.lines:
        return [_finding(evidence.non_finite, None, "its output is not finite.", False)]
    return []


def _finding(place: str, site: int | None, evidence: str, of_parameters: bool) -> Finding:
    remedy = (
        "Load the weights again from before the run diverged."
        if of_parameters
        else "Look there for a division, a logarithm or a root of what may be zero or negative, or an overflow."
    )
    return Finding(cause="non-finite values", place=place, site=site, evidence=evidence, remedy=remedy)
