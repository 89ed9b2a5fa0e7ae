"""Tokens that become the same vector (Dong et al. 2021, arXiv 2103.03404)."""

from __future__ import annotations

from addnorm.diagnosis.evidence import Evidence
from addnorm.diagnosis.finding import Finding

SAME, DIFFERENT = 1e-4, 1e-2
"""Of `1 - |mean over tokens|^2 / mean |token|^2`."""


def rank_collapse(evidence: Evidence) -> list[Finding]:
    """The first sublayer behind which all tokens of a sequence are the same, where they were not before."""
    found = []
    for line in evidence.lines:
        for i, site in enumerate(line.sites):
            start = max(other.spread_before for other in line.sites[: i + 1])
            if site.spread_after < SAME and start > DIFFERENT:
                seen = (
                    f"the part of the state that differs between tokens falls from {site.spread_before:.1e} to "
                    f"{site.spread_after:.1e} of its squares."
                )
                remedy = "Look for a mean over the tokens, attention without a skip, or weights that attend evenly."
                place, cause = site.name, "rank collapse"
                found.append(Finding(cause=cause, place=place, site=i, evidence=seen, remedy=remedy))
                break
    return found
