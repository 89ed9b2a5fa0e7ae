"""Branches far larger or smaller than those that do the same at other depths."""

from __future__ import annotations

from statistics import median

from addnorm.diagnosis.evidence import Evidence
from addnorm.diagnosis.finding import Finding
from addnorm.diagnosis.verdicts.peers import nearest

LARGE, SMALL, ALIKE = 12.0, 1 / 40, 4.0
"""Where the neighbours differ by more than the last among themselves, nothing is said. Fresh sublayers of one role stay
within a factor of 3 of each other, trained ones within 8 of their neighbours."""


def branch_scale(evidence: Evidence) -> list[Finding]:
    """By the RMS of what is written, against the median of the nearest peers."""
    found = []
    for line in evidence.lines:
        for i, site in enumerate(line.sites):
            near = [other.write_rms for other in nearest(line, site)]
            usual = median(near) if len(near) > 1 and max(near) < ALIKE * min(near) else None
            if not usual or site.write_rms == 0 or SMALL < site.write_rms / usual < LARGE:
                continue
            seen = f"it writes an RMS of {site.write_rms:.2e}, {site.write_rms / usual:.3g} times its neighbours'."
            remedy = "Look for a factor on the branch, and at the size of its output weights."
            found.append(Finding(cause="mis-scaled branch", place=site.name, site=i, evidence=seen, remedy=remedy))
    return found
