"""How large the state is, what each sublayer reads and writes, and how a write lies to the state that it is added to.

    rms(x) = sqrt(mean(x^2)) over tokens and features;   ratio_i = rms(write_i) / rms(state_i)
    cosine_i = mean over tokens of <write_i, s_i> / (|write_i| |s_i|),  s_i the mean of the state's vectors

A Pre-LN stream grows as the square root of depth while its sublayers' outputs keep their size (Xiong et al. 2020,
arXiv:2002.04745), so the ratio falls; with branches that add up coherently it grows linearly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject, rows
from addnorm.diagnosis.trace import Trace


def rms(subject: Subject) -> list[Series]:
    """RMS of states, reads, writes; the writes' ratio to the state before them and their cosine with it."""
    trace, places = subject.trace, subject.sublayer_names
    states = _sizes(trace.states, trace.mask, 2)
    writes = _sizes(trace.writes, trace.mask, 1)
    ratio = [
        None if not state or write is None else write / state for write, state in zip(writes, states, strict=False)
    ]
    of_sublayers = {
        "read rms": ("RMS of what the sublayer reads", _sizes(trace.reads, trace.mask, 1)),
        "write rms": ("RMS of what it writes", writes),
        "write to state": ("RMS of the write over that of the state", ratio),
        "write cosine": ("cosine of the write with the state", _cosines(trace)),
    }
    return [
        Series(name="state rms", along="state", values=states, label="RMS of the state"),
        *(
            Series(name=name, along="sublayer", values=values, places=places, label=label)
            for name, (label, values) in of_sublayers.items()
        ),
    ]


def _cosines(trace: Trace) -> list[float]:
    before = (rows(state, trace.mask, 2).mean(-2) for state in trace.states)
    writes = (rows(write, trace.mask) for write in trace.writes)
    pairs = zip(before, writes, strict=False)
    return [float(F.cosine_similarity(state, write, dim=-1, eps=1e-30).mean()) for state, write in pairs]


def _sizes(tensors: Sequence[Tensor | None], mask: Tensor | None, trailing: int) -> list[float | None]:
    return [None if tensor is None else _size(rows(tensor, mask, trailing)) for tensor in tensors]


def _size(x: Tensor) -> float:
    return float(x.norm()) / math.sqrt(max(x.numel(), 1))
