"""MUDD: multiway dynamic dense connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_count
from addnorm.config import OptimizerRule
from addnorm.kernels.normed_projection import normed_projection
from addnorm.kernels.precision import uncast, wide
from addnorm.layers.norm import NormKind, make_norm
from addnorm.layers.views import Views
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import FirstKept, OutputsKept, StreamExit
from addnorm.schemes._weighted_sum import weighted_sum
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class DynamicMixture(nn.Module):
    """`x_c = sum_j w_cj X_j`, `w = W_2 gelu(W_1 RMSNorm(X_last)) + b`, for each way c.

    Args:
        d_model: the width.
        count: how many X_j there are.
        ways: how many mixtures.
        expand: hidden units are this times ways times count.
        eps: of the RMSNorm.
    """

    def __init__(self, d_model: int, count: int, ways: int, expand: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        hidden = expand * ways * count
        self.down = nn.Parameter(torch.empty(hidden, d_model))
        self.up = nn.Parameter(torch.empty(ways * count, hidden))
        self.bias = nn.Parameter(torch.empty(ways, count))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every way is the newest, for every token."""
        self.down.normal_(0.0, self.down.shape[1] ** -0.5)
        self.up.zero_()
        self.bias.zero_()
        self.bias[:, -1] = 1.0

    def forward(self, history: tuple[Tensor, ...]) -> list[Float[Tensor, "*tokens d_model"]]:
        """The mixtures, one a way."""
        newest = history[-1]
        hidden = F.gelu(normed_projection(newest.reshape(-1, newest.shape[-1]), self.down, self.eps))
        with uncast(newest):
            dynamic = wide(self.up) @ hidden
        weights = dynamic.view(*self.bias.shape, *newest.shape[:-1], 1)
        weights = weights + self.bias.view(*self.bias.shape, *[1] * newest.dim())
        return [weighted_sum(way.unbind(), history).to(newest.dtype) for way in weights.unbind()]


class MuddConnection(Connection):
    """`r + F(norm_q(q), norm_k(k), norm_v(v))`, or `r + F(norm(x))`.

    Args:
        d_model: the width.
        norm: of what the sublayer reads.
        inward: opens a layer: mixtures of the history that are read instead of the stream; the last way is r.
        keeps: closes a layer: the sum is kept.
        outward: closes the last layer: a mixture of the history that the stream becomes.
    """

    def __init__(
        self,
        d_model: int,
        norm: NormKind,
        inward: DynamicMixture | None,
        *,
        keeps: bool,
        outward: DynamicMixture | None,
    ) -> None:
        super().__init__()
        self.inward, self.keeps, self.outward = inward, keeps, outward
        views = 1 if inward is None else len(inward.bias) - 1
        self.norms = nn.ModuleList(make_norm(norm, d_model) for _ in range(views))

    def read(self, state: OutputsKept) -> tuple[Tensor | Views, OutputsKept]:
        """The normalised stream, or normalised mixtures; the mixture r and the history are the skip."""
        ways = [state.stream] * 2 if self.inward is None else self.inward(state.kept)
        views = [norm(way) for norm, way in zip(self.norms, ways, strict=False)]
        return views[0] if len(views) == 1 else Views(*views), OutputsKept(ways[-1], state.kept)

    def write(self, skip: OutputsKept, update: Tensor) -> OutputsKept:
        """Add; keep the sum if it closes a layer."""
        x = skip.stream + update
        kept = (*skip.kept, x) if self.keeps else skip.kept
        return OutputsKept(x if self.outward is None else self.outward(kept)[0], kept)


@dataclass(frozen=True, kw_only=True)
class Mudd(Scheme):
    """MUDD: queries, keys, values and skip of each layer are mixtures of their own of all layers' outputs, by token.

        x^c = sum_{j<=l} w^c_j X_j,  w = W_2 gelu(W_1 RMSNorm(X_l)) + b,  c = q, k, v, r
        X_{l+1} = y + FFN(n(y)),  y = x^r + Attention(n_q(x^q), n_k(x^k), n_v(x^v));    hidden = n(x) with c = r alone

    X_0 is the embedding. W_1 is drawn, W_2 zero, and b one at the newest and zero elsewhere, as in the authors' JAX
    code: Pre-LN. The first layer has nothing to mix. Where a layer does not open with an attention, all that it reads
    is one mixture.

    Reference: Xiao et al. 2025, arXiv:2502.12170.
    Cost: d to 2d parameters a norm, four norms a layer; 4(l + 1)d + 16(l + 1)^2 + 4(l + 1) for layer l's mixtures,
    which take about twice that in multiplications a token and 4(l + 1)d more; all layers' outputs are kept, (L + 1)d.
    Deviation: the authors round hidden units up to a multiple of 64, let the feed-forwards grow with the depth, and
    in some models normalise what is mixed and the mixtures; left out. The initial size of W_1 was not found; here
    N(0, 1/d).

    Args:
        last_expand: hidden units of the last mixture, as a multiple; 4 in the paper, others have 1.
        eps: of the RMSNorm that the weights are computed from.
    """

    norm: NormKind = "rms"
    last_expand: int = 4
    eps: float = 1e-6

    diagram: ClassVar[str] = "history mix:q,k,v,r box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("last_expand", self.last_expand)
        check_at_least("eps", self.eps, 0)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding is the first of the history."""
        return FirstKept()

    def connection(self, d_model: int, site: Site) -> Connection:
        """Norms; mixtures where a layer opens, and where the last one closes."""
        inward = outward = None
        if site.opens_layer and site.layer > 0:
            ways = 4 if site.kind == "attention" else 2
            inward = DynamicMixture(d_model, site.layer + 1, ways, 1, self.eps)
        if site.index == site.depth - 1:
            outward = DynamicMixture(d_model, site.num_layers + 1, 1, self.last_expand, self.eps)
        return MuddConnection(d_model, self.norm, inward, keeps=site.closes_layer, outward=outward)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return StreamExit(d_model, self.norm)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: all weight is on the newest output."""
        return PreNorm(norm=self.norm)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The matrices decay, as in the authors' code."""
        return OptimizerRule(decays=own is not None and own.endswith((".down", ".up")))
