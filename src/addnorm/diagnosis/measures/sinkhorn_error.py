"""How far each mixing matrix is from doubly stochastic.

    rows: max_k |sum_l A_kl - 1|;    columns: max_l |sum_k A_kl - 1|

Sinkhorn and Knopp 1967, doi:10.2140/pjm.1967.21.343, as in mHC (Xie et al. 2025, arXiv:2512.24880): rows keep equal
streams equal, columns keep the sum of all. Rows that are off where columns are exact say that A is applied transposed.
A is recovered from the trace; where streams are equal it is not determined, and nothing is said.
"""

from __future__ import annotations

from addnorm.diagnosis.subject import Series, Subject, rows


def sinkhorn_error(subject: Subject) -> list[Series]:
    """The largest over tokens at each write; nothing of one stream."""
    if subject.trace.trunk.layout != "streams":
        return []
    found: dict[int, list[float | None]] = {-1: [], -2: []}
    for site in subject.write_maps:
        known = site.mixing is not None and site.mixing.shape[1] == site.mixing.shape[2] and site.determined
        for dim, errors in found.items():
            mixing = rows(site.mixing, subject.trace.mask, 2) if known and site.mixing is not None else None
            errors.append(None if mixing is None else float((mixing.sum(dim) - 1).abs().max()))
    places = subject.sublayer_names
    return [
        Series(
            name="row error", along="sublayer", values=found[-1], places=places, label="a row sum's distance from 1"
        ),
        Series(name="column error", along="sublayer", values=found[-2], places=places, label="likewise of columns"),
    ]
