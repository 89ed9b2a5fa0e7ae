"""Sublayers that write exactly nothing and have no gradient to change that."""

from __future__ import annotations

from addnorm.diagnosis.evidence import Evidence
from addnorm.diagnosis.finding import Finding


def dead_gate(evidence: Evidence) -> list[Finding]:
    """A gate or a LayerScale that is zero for good; one that is zero and has a gradient (ReZero) is none."""
    return [
        Finding(
            cause="dead gate",
            place=site.name,
            site=i,
            evidence="what it writes is exactly 0, and none of its parameters has a gradient.",
            remedy="Let one factor only start at zero, train it, and put no ReLU on it.",
        )
        for line in evidence.lines
        for i, site in enumerate(line.sites)
        if site.write_rms == 0 and site.parameters and not site.learns and site.finite
    ]
