"""How much of each earlier vector a sublayer reads.

    r_i = n_i(sum_j a_ij v_j),  sum_j a_ij = 1

Attention residuals (Kimi Team 2026, arXiv:2603.15031) make a with a softmax; here a is recovered from what was read,
through the norm in between, which takes the scale away: shares, not weights.
"""

from __future__ import annotations

import torch

from addnorm.diagnosis.frozen_norm import norms_named
from addnorm.diagnosis.subject import Series, Subject, rows
from addnorm.diagnosis.write_map import solve

EXPLAINED = 1e-3  # of the size of what was read; another norm in between leaves a tenth


def depth_weights(subject: Subject) -> list[Series]:
    """A row of shares for each sublayer, the means over tokens; nothing where there is no depth attention."""
    if subject.trace.trunk.layout != "depth attention":
        return []
    values = [read_weights(subject, site) for site in range(len(subject.trace.writes))]
    label = "share of each vector in what is read"
    return [Series(name="depth weights", along="sublayer", values=values, places=subject.sublayer_names, label=label)]


@torch.no_grad()
def read_weights(subject: Subject, site: int) -> list[float] | None:
    """The share of each of the state's vectors in what one sublayer read, the mean over tokens.

    None where the read is not to be seen, or is no mixture of them, or is one by more than one set of shares.
    """
    trace, sublayer = subject.trace, subject.trace.trunk.sublayers[site]
    given = trace.reads[site]
    if given is None:
        return None
    read, vectors = rows(given, trace.mask), rows(trace.states[site], trace.mask, 2)
    if vectors.shape[1] >= vectors.shape[2]:
        return None
    for norm in norms_named(subject.model, sublayer.norm_before, read) or [None]:
        target, sources = (read, vectors) if norm is None else (read - norm.shift, norm.linear(vectors))
        found, determined = solve(sources, target[:, None], torch.finfo(trace.states[0].dtype).eps)
        left = (found @ sources)[:, 0] - target
        if determined and bool(left.norm() <= EXPLAINED * target.norm()):
            return (found[:, 0] / found[:, 0].sum(-1, keepdim=True)).mean(0).tolist()
    return None
