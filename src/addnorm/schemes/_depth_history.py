"""What the two forms of attention residuals share: the read, the way out, the state's form.

The state is a tuple of the sources that the next sublayer reads, the embedding first, each `[..., d_model]`.

A mixture of m sources by equal weights is their sum over m, which the norm after it takes away all but its eps: beside
the mean square of a mixture it would weigh m^2 times what it does beside that of the sum. So it is divided by m^2, and
the start is that of Pre-LN whatever the size of the stream.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from addnorm.kernels.depth_attention import depth_attention
from addnorm.layers.depth_history_route import DepthMixture, Sources, norm_of_sum
from addnorm.layers.norm import EPS, NormKind, make_norm
from addnorm.residual import Connection, Exit


class HistoryEntrance(nn.Module):
    """The embedding is the first source."""

    def forward(self, embedding: Tensor) -> Sources:
        """The first state."""
        return (embedding,)


class HistoryConnection(Connection):
    """Reads `n(sum_j a_j v_j)`; its output is a source of its own, or is added to the last one.

    Args:
        d_model: the width.
        norm: what normalises the mixture.
        eps: of the keys' RMSNorm.
        reads: how many sources there are to read; of the embedding alone there is nothing to weigh, and no query.
        appends: whether the output becomes a new source.
    """

    def __init__(self, d_model: int, norm: NormKind, eps: float, *, reads: int, appends: bool) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, EPS / reads**2)
        self.query = None if reads == 1 else nn.Parameter(torch.zeros(d_model))
        self.eps, self.appends = eps, appends

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """All sources alike."""
        if self.query is not None:
            self.query.zero_()

    def read(self, state: Sources) -> tuple[Tensor, Sources]:
        """The normalised mixture; the sources themselves are the skip."""
        mixture = state[0] if self.query is None else depth_attention(self.query, state, self.eps)
        return self.norm(mixture), state

    def write(self, skip: Sources, update: Tensor) -> Sources:
        """One source more, or the last one grown."""
        if self.appends:
            return (*skip, update)
        return (*skip[:-1], skip[-1] + update)

    def fused(self) -> DepthMixture:
        """All reads of a stack share one history of the sources, up to the exit."""
        return DepthMixture(query=self.query, norm=self.norm, eps=self.eps, appends=self.appends)


class HistoryExit(Exit):
    """The mixture of all sources by a query of its own, then the final norm.

    It reads any state, so how many sources there are shows only then.
    """

    def __init__(self, d_model: int, norm: NormKind, eps: float) -> None:
        super().__init__(d_model, norm)
        self.query = nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """All sources alike."""
        self.query.zero_()

    def normed(self, x: Tensor, state: Sources) -> Tensor:
        """The final norm of what is of the size of a mixture."""
        return norm_of_sum(self.norm, x, len(state))

    def collapse(self, state: Sources) -> Tensor:
        """One vector a token, before the final norm."""
        return depth_attention(self.query, state, self.eps)

    def fused(self) -> DepthMixture:
        """The last read."""
        return DepthMixture(query=self.query, norm=self.norm, eps=self.eps, appends=None)
