"""How much attention goes to the first key whatever the query is.

    alpha_k = 1 / (T - k) sum_{i >= k} a_ik;    rate = share of heads with alpha_0 > 0.3

Xiao et al. 2023, arXiv:2309.17453; the rate is that of Gu et al. 2024, arXiv:2410.10781. Of a short sequence even
uniform causal attention gives the first key much: 0.34 at 8 tokens, 0.07 at 64; it is reported beside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject

EPSILON = 0.3


def attention_sinks(subject: Subject) -> list[Series]:
    """By attention module: attention to the first key, what of it uniform attention would give, and the rate."""
    trace = subject.trace
    found = {name: sink(weights, trace.mask) for name, weights in trace.attention.items()}
    if not found:
        return []
    named = {
        "attention to the first": ("mean attention to the first key", [float(own.mean()) for own, _ in found.values()]),
        "uniform to the first": ("what uniform attention would give it", [uniform for _, uniform in found.values()]),
        "sink rate": ("heads with a sink", [float((own > EPSILON).double().mean()) for own, _ in found.values()]),
    }
    return [
        Series(name=name, along="attention", values=values, places=list(found), label=label)
        for name, (label, values) in named.items()
    ]


def sink(weights: Tensor, mask: Tensor | None) -> tuple[Tensor, float]:
    """Of each head alpha_0, and what it would be if every query looked at all that it sees alike.

    The first key is each sequence's first real one.
    """
    weights = weights.detach().double()
    batch, _, queries, keys = weights.shape
    own = mask is not None and queries == keys and mask.shape == (batch, keys)
    real = (
        mask.bool() if own and mask is not None else torch.ones(batch, queries, dtype=torch.bool, device=weights.device)
    )
    first = real.int().argmax(-1) if own else real.new_zeros(batch, dtype=torch.long)
    to_first = weights.gather(-1, first[:, None, None, None].expand(batch, weights.shape[1], queries, 1)).squeeze(-1)
    alike = (to_first > 0) / (weights > 0).sum(-1).clamp_min(1)
    kept = real[:, None].expand_as(to_first)
    return (to_first * kept).sum((0, 2)) / kept.sum((0, 2)), float(alike[kept].mean())
