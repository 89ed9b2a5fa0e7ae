"""Gated multi-residual streams, as in Qwen4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_count, check_positive
from addnorm.errors import UserError
from addnorm.kernels.precision import uncast, wide
from addnorm.kernels.rms_norm import rms_norm
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._streams import Mixed, StreamEntrance

if TYPE_CHECKING:
    from jaxtyping import Float


class GatedRead(nn.Module):
    """`mean_i(sigmoid(W_up silu(W_down x~ / n))_i * x~_i)`, where `x~_i` is the normalised stream i.

    It returns `x~` too, the streams side by side, in float32.
    """

    def __init__(self, d_model: int, scheme: GatedMultiResidual) -> None:
        super().__init__()
        n, rank = scheme.streams, scheme.rank_at(d_model)
        self.eps, self.std = scheme.eps, scheme.projection_std
        self.gain = nn.Parameter(torch.empty(n, d_model))
        self.down = nn.Parameter(torch.empty(rank, n * d_model))
        self.up = nn.Parameter(torch.empty(n * d_model, rank))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly half of the mean of the normalised streams."""
        self.gain.fill_(1.0)
        self.down.normal_(0.0, self.std)
        self.up.normal_(0.0, self.std)

    def forward(self, streams: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Tensor]:
        """The read in the streams' precision, and `vec(x~)` in float32."""
        n = len(self.gain)
        one = torch.ones_like(wide(self.gain)[0])
        normed = rms_norm(wide(streams), one, self.eps) * wide(self.gain)
        flat = normed.flatten(-2)
        with uncast(streams):
            gate = torch.sigmoid(F.silu(flat @ wide(self.down).mT / n) @ wide(self.up).mT)
        return (gate.view_as(normed) * normed).mean(-2).to(streams.dtype), flat


class GatedConnection(Connection):
    """`X + g F(gated read of X)`, `g = 2 sigmoid(W_inject x~ / n)`, a gain for each stream."""

    def __init__(self, d_model: int, scheme: GatedMultiResidual) -> None:
        super().__init__()
        self.std = scheme.projection_std
        self.gated = GatedRead(d_model, scheme)
        self.inject = nn.Parameter(torch.empty(scheme.streams, scheme.streams * d_model))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly the update itself, for every stream."""
        self.inject.normal_(0.0, self.std)

    def read(self, state: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Mixed]:
        """The gated mean of the normalised streams; the skip is the streams and the gains."""
        x, flat = self.gated(state)
        with uncast(state):
            gains = 2 * torch.sigmoid(flat @ wide(self.inject).mT / len(self.inject))
        return x, Mixed(state, gains)

    def write(self, skip: Mixed, update: Tensor) -> Tensor:
        """`X + g y`, added up in float32."""
        streams, gains = skip
        return torch.addcmul(wide(streams), gains.unsqueeze(-1), wide(update).unsqueeze(-2)).to(streams.dtype)


class GatedExit(Exit):
    """A gated read of its own, and no norm after it."""

    def __init__(self, d_model: int, scheme: GatedMultiResidual) -> None:
        super().__init__(d_model, "none")
        self.gated = GatedRead(d_model, scheme)

    def collapse(self, state: Float[Tensor, "*tokens n d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """The gated mean of the normalised streams."""
        return self.gated(state)[0]


@dataclass(frozen=True, kw_only=True)
class GatedMultiResidual(Scheme):
    """Gated multi-residual: n streams that are never mixed, read together through a gate on every feature.

        X_i <- X_i + 2 sigmoid(W_inject x~ / n)_i F(r),  X in R^{n x d};    hidden = r'
        r = mean_i(sigmoid(W_up silu(W_down x~ / n))_i * x~_i),  x~_i = RMSNorm(X_i) g_i,  x~ in R^{nd}

    `r'` is a read with weights of its own. The gate has a number for each of the nd features and is of low rank; the
    norm before the sublayer is that of the read, so nothing follows it. Gains `g` start at 1, all matrices as
    N(0, 0.02^2): reads start near half the mean of the normalised streams, gains of updates near 1. The streams are
    told apart by the random rows for each alone: with `W_inject = 0` and `W_up = 0` they would stay equal for ever.

    Reference: Qwen4-Exp (Qwen team 2026), after its implementation in transformers 5.23; identity mixing as in
    Xie et al. 2025, arXiv:2512.24880, with `H_res = I`.
    Cost: nd(2r + n + 1) parameters a sublayer, of which nd are the norm's, as many multiplications a token; nd(2r + 1)
    at the exit; residual traffic about (3n + 2)d a token and sublayer, state nd.

    Args:
        streams: n; at least 2.
        rank: r, of the gate; by default 5/32 of d_model, which is Qwen4-Exp's 320 at 2048.
        projection_std: of the initial matrices; above 0.
        eps: added to the mean square of a stream.
    """

    norm: NormKind = "rms"
    streams: int = 4
    rank: int | None = None
    projection_std: float = 0.02
    eps: float = 1e-6

    diagram: ClassVar[str] = "streams:4 fork box:n mix:gate sublayer scale:inject add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("streams", self.streams)
        if self.streams < 2:
            raise UserError(f"streams={self.streams} is not allowed; use 2 or more.")
        if self.rank is not None:
            check_count("rank", self.rank)
        check_positive("projection_std", self.projection_std)
        check_positive("eps", self.eps)
        if self.norm != "rms":
            raise UserError(f"norm={self.norm} is not allowed: gated-multi-residual has its own RMSNorm; use norm=rms.")

    def rank_at(self, d_model: int) -> int:
        """The rank of the gate.

        >>> GatedMultiResidual().rank_at(2048)
        320
        """
        return self.rank or max(1, round(d_model * 5 / 32))

    def entrance(self, d_model: int) -> nn.Module:
        """Every stream starts as the embedding."""
        return StreamEntrance(self.streams)

    def exit(self, d_model: int) -> Exit:
        """A last gated read."""
        return GatedExit(d_model, self)

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norms' gains, the gate's two matrices, the map to the gains of the update."""
        return GatedConnection(d_model, self)
