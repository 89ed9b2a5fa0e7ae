"""A few activations that dwarf all others.

    massive: |x| > 100 and |x| >= 1000 median(|x|), over the state of a depth

Sun et al. 2024, arXiv:2402.17762: they stand in few features and tokens, hold from an early block to a late one, and go
with attention sinks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject, rows

LARGE, TIMES = 100.0, 1000.0


def massive_activations(subject: Subject) -> list[Series]:
    """At each depth how many there are, and the largest activation over the median one."""
    states = [rows(state, subject.trace.mask, 2).abs().flatten() for state in subject.trace.states]
    ratios = [_ratio(x) for x in states]
    counts = [int(((x > LARGE) & (x >= TIMES * x.median())).sum()) for x in states]
    return [
        Series(name="massive activations", along="state", values=counts, label="activations that are massive"),
        Series(name="largest activation", along="state", values=ratios, label="the largest activation over the median"),
    ]


def _ratio(x: Tensor) -> float | None:
    middle = float(x.median())
    return float(x.max()) / middle if middle > 0 and bool(torch.isfinite(x).all()) else None
