"""What the two forms of attention residuals share: the read, the way out, the state's form.

The state is a tuple of the sources that the next sublayer reads, the embedding first, each `[..., d_model]`. Where
nobody sees the states a stack's first connection turns it into a `History`, whose reads and gradients are a kernel's.

A mixture of m sources by equal weights is their sum over m, which the norm after it takes away all but its eps: beside
the mean square of a mixture it would weigh m^2 times what it does beside that of the sum. So it is divided by m^2, and
the start is that of Pre-LN whatever the size of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from addnorm.kernels.depth_attention import depth_attention
from addnorm.kernels.depth_history import History, Norm, begin
from addnorm.kernels.depth_history_call import LAYER, RMS
from addnorm.layers.norm import EPS, LayerNorm, NormKind, RMSNorm, is_plain, make_norm
from addnorm.layers.watched import is_only
from addnorm.residual import Connection, Exit

Sources = tuple[Tensor, ...]


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

    def foresee(self, state: Sources, following: Sequence[Connection], way_out: Exit) -> Sources | History:
        """A history that knows all queries, if all that follows is of this kind and the kernel runs."""
        later = [one for one in following if type(one) is HistoryConnection and one.eps == self.eps]
        queries = [one.query for one in later if one.query is not None]
        plain = type(self) is HistoryConnection and self.query is None and self.appends
        if not plain or len(queries) < len(following) or not isinstance(way_out, HistoryExit) or not way_out.is_bare:
            return state
        return begin(state, [*queries, way_out.query], self.eps) or state

    def read(self, state: Sources | History) -> tuple[Tensor, Sources | History]:
        """The normalised mixture; the sources themselves are the skip."""
        if self.query is None:
            return self.norm(state.fresh[0] if isinstance(state, History) else state[0]), state
        if isinstance(state, History):
            return _read(state, self.norm)
        return _read_alone(state, self), state

    def write(self, skip: Sources | History, update: Tensor) -> Sources | History:
        """One source more, or the last one grown."""
        if isinstance(skip, History) and skip.takes(update):
            return skip.append(update) if self.appends else skip.grow(update)
        if isinstance(skip, History):
            skip = skip.sources()
        if self.appends:
            return (*skip, update)
        return (*skip[:-1], skip[-1] + update)


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

    @property
    def is_bare(self) -> bool:
        """Whether nothing but `forward` would run when it is called, with the eps of its connections."""
        return is_only(self, HistoryExit)

    def forward(self, state: Sources | History) -> Tensor:
        """The hidden vector that a head reads."""
        if isinstance(state, History):
            return _read(state, self.norm, _count(state))[0]
        return _read_alone(state, self, len(state))

    def normed(self, x: Tensor, state: Sources) -> Tensor:
        """The final norm of what is of the size of a mixture."""
        return _of_the_sum(self.norm, x, len(state))

    def collapse(self, state: Sources) -> Tensor:
        """One vector a token, before the final norm."""
        return depth_attention(self.query, state, self.eps)


def _count(history: History) -> int:
    """How many sources the next read has."""
    return len(history.values) + (0 if history.grows else len(history.fresh))


def _of_the_sum(norm: nn.Module, mixture: Tensor, count: int) -> Tensor:
    """The norm of a mixture of `count` sources, its eps as beside their sum."""
    return norm(count * mixture) if count > 1 and isinstance(norm, LayerNorm | RMSNorm) else norm(mixture)


def _read(history: History, norm: nn.Module, count: int = 1) -> tuple[Tensor, History]:
    """The kernel normalises too, where it knows the norm and nobody watches it; `count` divides the norm's eps."""
    if is_plain(norm):
        kind, eps = LAYER if isinstance(norm, LayerNorm) else RMS, norm.eps / count**2
        form = Norm(kind=kind, weight=norm.weight, bias=getattr(norm, "bias", None), eps=eps)
        if form.fits(history.queries.shape[-1]):
            return history.read(form)
    mixture, history = history.read(Norm())
    return _of_the_sum(norm, mixture, count), history


def _read_alone(state: Sources, reader: HistoryConnection | HistoryExit, count: int = 1) -> Tensor:
    """The same bits as from a history of the whole stack, in float32 and float64."""
    assert reader.query is not None
    history = begin(state, [reader.query], reader.eps)
    if history is None:
        return _of_the_sum(reader.norm, depth_attention(reader.query, state, reader.eps), count)
    return _read(history, reader.norm, count)[0]
