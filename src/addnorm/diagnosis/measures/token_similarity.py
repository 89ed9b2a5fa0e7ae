"""How alike the tokens of a sequence are.

    mean over pairs i != j of <x_i, x_j> / (|x_i| |x_j|)

1 where all tokens are one (Dong et al. 2021, arXiv:2103.03404, after Gong et al. 2021, arXiv:2104.12753).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from addnorm.diagnosis.subject import Series, Subject, mean, sequences


def token_similarity(subject: Subject) -> list[Series]:
    """The mean over sequences, at each depth."""
    trace = subject.trace
    values = [mean([mean_cosine(x) for x in sequences(state, trace.mask, 2)]) for state in trace.states]
    return [Series(name="token similarity", along="state", values=values, label="mean cosine between two tokens")]


def mean_cosine(x: Tensor) -> float:
    """Between two of the rows of `(*other, rows, features)`, the mean over pairs and the rest."""
    directions, n = F.normalize(x.double(), dim=-1, eps=1e-300), x.shape[-2]
    together = directions.sum(-2).square().sum(-1) - directions.square().sum((-1, -2))
    return float(together.mean()) / (n * (n - 1))
