"""How alike the state is at any two depths.

    similarity_ij = mean over tokens of the cosine of s_i and s_j,  s_i the mean of the state's vectors at depth i

A band of ones along the diagonal is layers that change little (Gromov et al. 2024, arXiv:2403.17887, by angles).
"""

from __future__ import annotations

import torch.nn.functional as F

from addnorm.diagnosis.subject import Series, Subject, rows


def depth_similarity(subject: Subject) -> list[Series]:
    """For each depth a row: the cosine with every depth."""
    trace = subject.trace
    states = [F.normalize(rows(state, trace.mask, 2).mean(-2), dim=-1, eps=1e-30) for state in trace.states]
    values = [[float((one * two).sum(-1).mean()) for two in states] for one in states]
    return [Series(name="depth similarity", along="state", values=values, label="mean cosine with the state there")]
