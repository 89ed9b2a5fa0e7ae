"""Delta attention residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least
from addnorm.errors import unknown
from addnorm.kernels.depth_attention import depth_attention
from addnorm.layers.norm import EPS, NormKind
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import CarryingConnection, FirstKept, OutputsKept, StreamExit
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float

Null = Literal["none", "learned"]


class DeltaConnection(CarryingConnection):
    """`x + F(norm(x))`; the output is kept."""

    def write(self, skip: OutputsKept, update: Tensor) -> OutputsKept:
        """Add, and keep the output."""
        return OutputsKept(skip.stream + update, (*skip.kept, update))


class RoutedConnection(DeltaConnection):
    """`x + F(norm(x + sum_j a_j v_j))`; the output is kept.

    Args:
        d_model: the width.
        norm: of what the sublayer reads.
        eps: of the keys' RMSNorm.
        sources: how many there are, without the null source.
        null: whether there is a learned vector among the sources.
    """

    def __init__(self, d_model: int, norm: NormKind, eps: float, *, sources: int, null: bool) -> None:
        super().__init__(d_model, norm, EPS * (1 + 1 / (sources + null)) ** 2)
        self.eps = eps
        self.query = nn.Parameter(torch.zeros(d_model))
        self.null = nn.Parameter(torch.zeros(d_model)) if null else None

    def reset_parameters(self) -> None:
        """All sources alike; the null source is zero."""
        nn.init.zeros_(self.query)
        if self.null is not None:
            nn.init.zeros_(self.null)

    def read(self, state: OutputsKept) -> tuple[Float[Tensor, "*tokens d_model"], OutputsKept]:
        """The normalised sum of stream and mixture; the state is the skip."""
        x, sources = state
        if self.null is not None:
            sources = (self.null.to(x.dtype).expand_as(x), *sources)
        return self.norm(x + depth_attention(self.query, sources, self.eps)), state


@dataclass(frozen=True, kw_only=True)
class DeltaAttentionResiduals(Scheme):
    """Delta AttnRes: beside the stream each sublayer reads a softmax mixture of what the earlier ones have added to it.

        x <- x + y_i,  y_i = F_i(n(x + sum_{j<=i} a_ij v_j)),  v_0 = embedding,  v_{j+1} = y_j
        a_ij = softmax_j(w_i . RMSNorm(v_j));    hidden = n(x)

    The sources are the sublayers' outputs, not the states that they add up to, and the mixture is added to the stream
    instead of taking its place: that keeps the stream, and is what the authors later named as the reason for the gain.
    The first sublayer reads the stream alone. The queries start at zero, so that the mixture is the mean of the
    sources, 1/m of the stream, which is their sum; a norm takes the factor 1 + 1/m away, and what is computed is
    Pre-LN. A learned null source, zero at first, is one more to attend to.

    Reference: Luo et al. 2026, arXiv:2605.18855.
    Cost: 2d to 3d parameters a sublayer (norm and query; null source 1d more); the mixture takes about 4(i + 1)d
    multiplications a token at sublayer i, and i + 2 vectors a token are kept.
    Deviation: the keys' norm of the authors' code has a gain, which appears only multiplied with the query and is left
    out. The authors write of a start at zero, and their code draws the queries at random. There the null source stands
    alone before the first sublayer and is a bias; here it starts with the second. The form with blocks of layers is
    left out. The eps of a norm is multiplied by (1 + 1/m)^2, so that the start is Pre-LN at any size of the stream.

    Args:
        null: "learned" adds a learned vector to the sources of each sublayer.
        eps: added to the mean square of a key.
    """

    null: Null = "none"
    eps: float = 1e-6

    diagram: ClassVar[str] = "history mix:x+softmax box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("eps", self.eps, 0)
        if self.null not in get_args(Null):
            raise unknown("null", str(self.null), get_args(Null))

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding is the first source."""
        return FirstKept()

    def connection(self, d_model: int, site: Site) -> Connection:
        """A norm and, but for the first sublayer, a query."""
        if site.index == 0:
            return DeltaConnection(d_model, self.norm)
        return RoutedConnection(d_model, self.norm, self.eps, sources=site.index + 1, null=self.null == "learned")

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return StreamExit(d_model, self.norm)

    def starts_as(self) -> Scheme | None:
        """Pre-LN, where a norm takes away the factor by which stream and mean differ from the stream."""
        return PreNorm(norm=self.norm) if self.norm in ("layer", "rms") else None
