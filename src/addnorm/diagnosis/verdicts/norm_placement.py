"""Norms that are missing where peers have one, and norms that read what a norm has made."""

from __future__ import annotations

from collections import Counter

from addnorm.diagnosis.evidence import Evidence, Line, SiteFacts
from addnorm.diagnosis.finding import Finding
from addnorm.diagnosis.verdicts.peers import number, peers

MOST = 0.75
PLACES = {"norm_before": "before it", "norm_after": "behind it", "norm_on_trunk": "on the sum"}


def norm_placement(evidence: Evidence) -> list[Finding]:
    """By what modules and functions are there, not by numbers: the second of two norms changes next to nothing."""
    found = []
    for line in evidence.lines:
        found += [*_doubled(line, evidence.doubled), *_beside_peers(line), *_final(line)]
    return found


def _doubled(line: Line, pairs: list[tuple[str, str]]) -> list[Finding]:
    found = {}
    for second, first in pairs:
        site = _site_of(line, second)
        if site is not None:
            found.setdefault(site.name, _second_norm(line, site, second, first or "another norm"))
    return list(found.values())


def _site_of(line: Line, norm: str) -> SiteFacts | None:
    """The sublayer that a norm belongs to, by its parameters, by the norms it is known to have, or by name."""
    for site in line.sites:
        names = {getattr(site.sublayer, place) for place in PLACES} - {None, ""}
        if any(norm == name or norm.startswith(f"{name}.") for name in names):
            return site
    for site in line.sites:
        if any(name.startswith(f"{norm}.") for name in site.sublayer.parameters) or norm.startswith(f"{site.name}."):
            return site
    return None


def _beside_peers(line: Line) -> list[Finding]:
    found = []
    for i, site in enumerate(line.sites):
        others = Counter(other.norms for other in peers(line, site))
        if sum(others.values()) < 3:
            continue
        usual, count = others.most_common(1)[0]
        if count < MOST * sum(others.values()) or usual == site.norms:
            continue
        if site.norms < usual and not (site.reads_normed and usual - site.norms == {"norm_before"}):
            missing = " and ".join(PLACES[place] for place in sorted(usual - site.norms))
            if _is_last_of_post(line, i, usual - site.norms):
                continue
            seen = f"it has no norm {missing}; {count} of {sum(others.values())} peers at other depths have one."
            found.append(
                Finding(
                    cause="missing norm", place=site.name, site=i, evidence=seen, remedy="Put the norm in its place."
                )
            )
        elif site.norms - usual == {"norm_before"} and site.reads_normed and "norm_on_trunk" in usual:
            name = site.sublayer.norm_before or "a norm"
            found.append(_second_norm(line, site, name, "the norm on the trunk"))
    return found


def _is_last_of_post(line: Line, at: int, missing: frozenset[str]) -> bool:
    """The norm of the last sum is the final norm."""
    return at == len(line.sites) - 1 and missing == {"norm_on_trunk"}


def _final(line: Line) -> list[Finding]:
    """A Pre-LN trunk whose state, which grows with depth, a head reads as it is."""
    sites = line.sites
    if line.head is None or line.final_norm is not None or any(site.norms != {"norm_before"} for site in sites):
        return []
    seen = (
        f"every sublayer reads through a norm, and {line.head} reads the bare state of RMS {sites[-1].state_rms:.3g}."
    )
    return [
        Finding(
            cause="missing norm",
            place=line.head,
            site=number(line, line.head) and len(sites),
            evidence=seen,
            remedy="Put a norm between the last sublayer and the head.",
        )
    ]


def _second_norm(line: Line, site: SiteFacts, second: str, first: str) -> Finding:
    return Finding(
        cause="doubled norm",
        place=site.name,
        site=line.sites.index(site),
        evidence=f"{second} reads what {first} has made, with nothing between.",
        remedy="Take one of the two out.",
    )
