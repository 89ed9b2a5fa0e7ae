"""How many directions the tokens of a sequence really span.

    erank(X) = exp(-sum_k p_k ln p_k),  p_k = sigma_k / sum_j sigma_j

sigma are the singular values of X, tokens x features. From 1, all tokens on one line, to the number of tokens (Roy and
Vetterli 2007, "The effective rank", EUSIPCO). Attention without skips collapses to 1 doubly exponentially with depth
(Dong et al. 2021, arXiv:2103.03404). The vectors of a state with several stand beside each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject, mean, sequences


def effective_rank(subject: Subject) -> list[Series]:
    """The mean over sequences, at each depth."""
    trace = subject.trace
    values = [mean([erank(x) for x in sequences(state, trace.mask, 2)]) for state in trace.states]
    return [Series(name="effective rank", along="state", values=values, label="directions that the tokens span")]


def erank(x: Tensor) -> float:
    """Of one matrix; 0 of zeros, nan of what is not finite.

    >>> round(erank(torch.eye(3)), 6)
    3.0
    """
    if not bool(torch.isfinite(x).all()):
        return float("nan")
    values = torch.linalg.svdvals(x)
    if not bool(values.sum() > 0):
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
