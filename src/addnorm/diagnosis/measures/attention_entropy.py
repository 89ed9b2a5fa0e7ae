"""How widely each attention looks.

    H = -sum_k a_k ln a_k of each query, in nats;    relative: over ln of how many keys it may see

0 where a query looks at one key, ln n where at all n alike. Entropy collapse goes with unstable training (Zhai et al.
2023, arXiv:2303.06296).
"""

from __future__ import annotations

import torch
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject


def attention_entropy(subject: Subject) -> list[Series]:
    """By attention module: the mean over heads and queries, that of the lowest head, the mean of the relative one."""
    trace = subject.trace
    if not trace.attention:
        return []
    found = [entropies(weights, trace.mask) for weights in trace.attention.values()]
    named = {
        "attention entropy": ("entropy in nats", [float(nats.mean()) for nats, _ in found]),
        "lowest head's entropy": ("entropy of the lowest head in nats", [float(nats.min()) for nats, _ in found]),
        "relative attention entropy": ("entropy, 1 = uniform", [float(relative.mean()) for _, relative in found]),
    }
    places = list(trace.attention)
    return [
        Series(name=name, along="attention", values=values, places=places, label=label)
        for name, (label, values) in named.items()
    ]


def entropies(weights: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each head, the mean over real queries: in nats, and over the largest possible one.

    A key with a weight of 0 counts as one that may not be seen; a query that sees one key alone is left out of the
    second.
    """
    weights = weights.detach().double()
    nats, seen = torch.special.entr(weights).sum(-1), (weights > 0).sum(-1)
    real = torch.ones_like(nats, dtype=torch.bool)
    if mask is not None and mask.shape == (weights.shape[0], weights.shape[2]):
        real &= mask.bool()[:, None]
    several = real & (seen > 1)
    relative = nats / seen.clamp_min(2).double().log()
    return _mean_of_heads(nats, real), _mean_of_heads(relative, several)


def _mean_of_heads(x: Tensor, real: Tensor) -> Tensor:
    return (x * real).sum((0, 2)) / real.sum((0, 2)).clamp_min(1)
