"""What all mixing from the entrance to a depth amounts to.

    P_i = A_i ... A_1;    forward: max_k sum_l |P_kl|;    backward: max_l sum_k |P_kl|

`Amax` of Xie et al. 2025, arXiv:2512.24880: 1.6 for mHC, 3000 for hyper-connections without a constraint. A is
recovered from the trace; among equal streams any A does the same, and nothing is said.
"""

from __future__ import annotations

import torch

from addnorm.diagnosis.subject import Series, Subject, rows


def composite_gain(subject: Subject) -> list[Series]:
    """The largest over tokens after each write, from the first at which A is known; nothing of one stream."""
    if subject.trace.trunk.layout != "streams":
        return []
    product: torch.Tensor | None = None
    forward: list[float | None] = []
    backward: list[float | None] = []
    for site in subject.write_maps:
        mixing = site.mixing
        if mixing is None or mixing.shape[1] != mixing.shape[2] or not site.determined:
            product = None
        else:
            product = mixing if product is None else mixing @ product
        real = None if product is None else rows(product, subject.trace.mask, 2).abs()
        forward.append(None if real is None else float(real.sum(-1).max()))
        backward.append(None if real is None else float(real.sum(-2).max()))
    places = subject.sublayer_names
    return [
        Series(
            name="forward gain", along="sublayer", values=forward, places=places, label="largest row sum of the mixing"
        ),
        Series(
            name="backward gain", along="sublayer", values=backward, places=places, label="largest column sum of it"
        ),
    ]
