"""How strongly each sublayer's output is written to each stream, how much of a stream is kept, and who is read.

    S' = A S + b w^T;    written: b_k;  kept: A_kk;  read: r ~ sum_k c_k S_k, c by its share

A and b are recovered from the trace (`addnorm.diagnosis.write_map`), c from what the sublayer read, through the norm in
between. Of one stream with a plain residual connection both are 1; a gate that stays at 0 is dead. Hyper-connections,
Zhu et al. 2024, arXiv:2409.19606, write with `B`, mHC (Xie et al. 2025, arXiv:2512.24880) with `H_post`.
"""

from __future__ import annotations

from torch import Tensor

from addnorm.diagnosis.measures.depth_weights import read_weights
from addnorm.diagnosis.subject import Series, Subject, rows


def stream_gates(subject: Subject) -> list[Series]:
    """A row of one number a stream, the means over tokens; None where they are not determined. Nothing of a history."""
    trace, maps = subject.trace, subject.write_maps
    if trace.trunk.layout == "depth attention":
        return []
    written, kept = [], []
    for site in maps:
        mixing = site.mixing
        written.append(_means(site.gains, subject) if site.error < 1e-3 else None)
        square = mixing is not None and mixing.shape[1] == mixing.shape[2] and site.determined and site.error < 1e-3
        kept.append(_means(mixing.diagonal(dim1=1, dim2=2), subject) if square and mixing is not None else None)
    places = subject.sublayer_names
    found = [
        Series(
            name="write gate", along="sublayer", values=written, places=places, label="weight of the write, by stream"
        ),
        Series(name="skip gate", along="sublayer", values=kept, places=places, label="share that is kept, by stream"),
    ]
    if trace.trunk.layout == "streams":
        read = [read_weights(subject, site) for site in range(len(maps))]
        label = "share of each stream in what is read"
        found.append(Series(name="read gate", along="sublayer", values=read, places=places, label=label))
    return found


def _means(gates: Tensor, subject: Subject) -> list[float]:
    return rows(gates, subject.trace.mask).mean(0).tolist()
