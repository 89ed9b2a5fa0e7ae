"""The skip: left out, scaled, doubled; a sublayer that writes nothing to the state."""

from __future__ import annotations

from statistics import median

from addnorm.diagnosis.evidence import Evidence, Line, SiteFacts
from addnorm.diagnosis.finding import Cause, Finding
from addnorm.diagnosis.verdicts.gradient_by_depth import FALL
from addnorm.diagnosis.verdicts.peers import depth, number

EXACT = 1e-3  # float32 leaves 1e-7 of a fit; a learned factor is seldom the same at all depths to three digits
FAR = 5.0


def skip(evidence: Evidence) -> list[Finding]:
    """Sublayers that replace the state or write nothing to it, cuts, and skips scaled otherwise than all others."""
    return [finding for line in evidence.lines for finding in (*_absent(line), *_cuts(line), *_scaled(line))]


def _absent(line: Line) -> list[Finding]:
    found = []
    for name, instead in line.absent.items():
        cause: Cause = "dropped skip" if instead == "replaces the state" else "unused layer"
        seen = {
            "replaces the state": "its output takes the place of the state, to which its peers add theirs.",
            "not used": "its output reaches neither the state nor the model's output.",
            "not called": "it is never called; its peers at other depths are.",
        }[instead]
        remedy = (
            "Add the state: x + f(x)." if cause == "dropped skip" else "Add its output to the state, or take it out."
        )
        found.append(Finding(cause=cause, place=name, site=number(line, name), evidence=seen, remedy=remedy))
    return found


def _cuts(line: Line) -> list[Finding]:
    """Where the state goes through a function, and no sublayer's output stands in its place."""
    found, at = [], 0
    dropped = [name for name, instead in line.absent.items() if instead == "replaces the state"]
    for part, after, way in zip(line.parts, line.parts[1:], line.cuts, strict=False):
        at += len(part)
        last, first = part[-1], after[0]
        if any(depth(last.name) <= depth(name) <= depth(first.name) for name in dropped):
            continue
        above, below = first.gradient_before, last.gradient_after
        falls = above is not None and (below or 0.0) < FALL * above
        seen = f"behind it the state goes through {way or 'a function'} and is not added to again"
        figure = "" if above is None else f"; the gradient goes from {above:.1e} above to {below or 0.0:.1e} below"
        found.append(
            Finding(
                cause="vanishing gradient" if falls else "dropped skip",
                place=last.name,
                site=at - 1,
                evidence=f"{seen}{figure}.",
                remedy="Let nothing but a norm stand on the trunk; put the function within a sublayer.",
            )
        )
    return found


def _scaled(line: Line) -> list[Finding]:
    """Only where all others have the same factor, a choice that is easily read off."""
    found = []
    fitted = [site for site in line.sites if site.misfit < EXACT]
    for site in fitted:
        others = [other.skip for other in fitted if other is not site]
        usual = median(others) if len(others) > 2 else 0.0
        if usual == 0 or sum(abs(other / usual - 1) < EXACT for other in others) < 0.75 * (len(line.sites) - 1):
            continue
        ratio = site.skip / usual
        if abs(ratio - 2) < EXACT:
            found.append(_finding("doubled skip", line, site, usual, "Add the state once."))
        elif 0 < ratio < 1 / FAR or ratio > FAR:
            found.append(_finding("mis-scaled skip", line, site, usual, "Give the skip the factor of the others."))
    return found


def _finding(cause: Cause, line: Line, site: SiteFacts, usual: float, remedy: str) -> Finding:
    seen = f"the new state holds {site.skip:.4g} times the old one, {usual:.4g} times at the other depths."
    return Finding(cause=cause, place=site.name, site=line.sites.index(site), evidence=seen, remedy=remedy)
