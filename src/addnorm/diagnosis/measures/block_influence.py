"""How much each block turns the state.

    BI_i = 1 - mean over tokens of <x_i, x_{i+1}> / (|x_i| |x_{i+1}|)

ShortGPT, Men et al. 2024, arXiv:2403.03853: blocks of the least influence are dropped first. With several vectors a
token they are taken as one; of a history that grows, their sum: what Pre-LN would have.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject, rows


def block_influence(subject: Subject) -> list[Series]:
    """Of each block of the trunk."""
    trace, blocks = subject.trace, subject.blocks()
    if not blocks:
        return []
    values = [influence(*(rows(trace.states[at], trace.mask, 2) for at in (start, end))) for _, start, end in blocks]
    places = [name for name, _, _ in blocks]
    return [
        Series(name="block influence", along="block", values=values, places=places, label="1 - cosine of in and out")
    ]


def influence(before: Tensor, after: Tensor) -> float:
    """Of states `(tokens, n, d_model)`."""
    if before.shape != after.shape:
        before, after = before.sum(1, keepdim=True), after.sum(1, keepdim=True)
    return float(1 - F.cosine_similarity(before.flatten(1), after.flatten(1), dim=-1, eps=1e-300).mean())
