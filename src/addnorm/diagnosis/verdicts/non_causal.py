"""Tokens that see later ones where most sublayers do not let them."""

from __future__ import annotations

from addnorm.diagnosis.evidence import Evidence, Line
from addnorm.diagnosis.finding import Finding


def non_causal(evidence: Evidence, causal: bool | None) -> list[Finding]:
    """By the gradient through each sublayer alone.

    Args:
        evidence: of one batch.
        causal: whether no token may see a later one; None = if that is so at most sublayers that mix tokens.
    """
    found = []
    for line in evidence.lines:
        if causal or (causal is None and _is_causal(line)):
            found += _leaks(line)
    return found


def _is_causal(line: Line) -> bool:
    mixing = [site.local for site in line.sites if site.local is not None and site.local.mixes]
    return 2 * sum(local.sees_the_future for local in mixing) < len(mixing)


def _leaks(line: Line) -> list[Finding]:
    found = {}
    for i, site in enumerate(line.sites):
        if site.local is None or not site.local.sees_the_future:
            continue
        seen = f"earlier tokens have a gradient of {site.local.backward:.1e} (relative) at later ones through it alone."
        remedy = "Mask the future: is_causal=True, a triangular mask, statistics over features and not over tokens."
        found.setdefault(
            site.name, Finding(cause="non-causal mixing", place=site.name, site=i, evidence=seen, remedy=remedy)
        )
    return list(found.values())
