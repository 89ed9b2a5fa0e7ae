"""Gradients that vanish or explode on their way from the exit to the entrance: at one sublayer, or all along."""

from __future__ import annotations

from addnorm.diagnosis.evidence import Evidence, Line, SiteFacts
from addnorm.diagnosis.finding import Finding

FALL, RISE = 1e-2, 1e3
"""Across one sublayer. Sound ones stay within a factor of 3 downwards; a small state, such as an embedding of
standard deviation 0.02 in front of the first norm, raises the gradient by up to 50."""
FALL_ALONG, RISE_ALONG = 1e-5, 1e6
"""From exit to entrance."""


def gradient_by_depth(evidence: Evidence) -> list[Finding]:
    """By the RMS of the loss's gradient at the state."""
    return [finding for line in evidence.lines for part in line.parts for finding in _of(line, part)]


def _of(line: Line, part: list[SiteFacts]) -> list[Finding]:
    found = []
    for site in reversed(part):
        above, below = site.gradient_after, site.gradient_before or 0.0
        if not above or (site.gradient_before is None and _is_passed(part, site)):
            continue
        if below < FALL * above:
            cut = next((other for other in part if other.detached), site)
            found.append(_at(line, cut, above, below, falls=True))
            break  # below it there is nothing left to compare with
        if below > RISE * above:
            found.append(_at(line, site, above, below, falls=False))
    return found or _along(line, part)


def _is_passed(part: list[SiteFacts], site: SiteFacts) -> bool:
    """Whether what lies below a state without a graph of its own learns all the same: within a fused operation."""
    at = part.index(site)
    return any(other.learns for other in part[: max(at, 1)])


def _at(line: Line, site: SiteFacts, above: float, below: float, *, falls: bool) -> Finding:
    seen = f"the gradient's RMS goes from {above:.1e} above it to {below:.1e} below."
    if falls:
        cut = "Look for detach(), no_grad() or a saturated function on the trunk."
        return Finding(
            cause="vanishing gradient", place=site.name, site=line.sites.index(site), evidence=seen, remedy=cut
        )
    steep = "Look for a large factor within it, or a norm with a tiny denominator."
    return Finding(
        cause="exploding gradient", place=site.name, site=line.sites.index(site), evidence=seen, remedy=steep
    )


def _along(line: Line, part: list[SiteFacts]) -> list[Finding]:
    top, bottom = part[-1].gradient_after, part[0].gradient_before
    if not top or bottom is None:
        return []
    place = line.name or "the trunk"
    seen = f"the gradient's RMS goes from {top:.1e} at the exit to {bottom:.1e} at the entrance."
    if bottom < FALL_ALONG * top:
        remedy = "Use a scheme that keeps it at this depth (Pre-LN, DeepNorm), or warm up long."
        return [Finding(cause="vanishing gradient", place=place, evidence=seen, remedy=remedy)]
    if bottom > RISE_ALONG * top:
        remedy = "Scale branches down with depth, or put norms on them."
        return [Finding(cause="exploding gradient", place=place, evidence=seen, remedy=remedy)]
    return []
