"""Alternating updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_count, check_positive
from addnorm.errors import UserError, unknown
from addnorm.kernels.precision import uncast, wide
from addnorm.kernels.rms_norm import rms_norm
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float

Select = Literal["same", "alternating"]
LEAST_SQUARE = 1e-5  # of a projected vector before its size is divided out; Gemma 3n's


class AltUpConnection(Connection):
    """`P = X + C X`, then `P_i + c_i F(n(P_a))` for every stream i: the sublayer runs on the stream a alone."""

    active: Tensor

    def __init__(self, d_model: int, site: Site, scheme: AltUp) -> None:
        super().__init__()
        K = scheme.streams
        self.place = site.index % K if scheme.select == "alternating" else 0
        # A tensor: as a number it would be a constant in the compiled graph, and every place would need its own. Stored
        # with the weights: what is only computed at construction is lost between `to_empty` and `load_state_dict`.
        self.register_buffer("active", torch.empty(1, dtype=torch.long))
        self.register_load_state_dict_pre_hook(_with_place)
        self.eps, self.std = scheme.eps, scheme.std
        self.norm = make_norm(scheme.norm, d_model)
        self.router_gain = nn.Parameter(torch.empty(d_model))
        self.router = nn.Parameter(torch.empty(K, d_model))
        self.prediction = nn.Parameter(torch.empty(K * K, K))
        self.correction = nn.Parameter(torch.empty(K, K))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly no prediction, and the update itself for every stream."""
        self.active.fill_(self.place)
        self.router_gain.fill_(1.0)
        for weight in (self.router, self.prediction, self.correction):
            weight.normal_(0.0, self.std)

    def read(self, state: Float[Tensor, "*tokens K d_model"]) -> tuple[Tensor, Tensor]:
        """The norm of the active stream as predicted; the skip is all predictions."""
        K = len(self.router)
        routed = self.routed(self.computed(state))
        with uncast(state):
            mixing = (routed @ wide(self.prediction).mT).unflatten(-1, (K, K))
            predicted = (wide(state) + mixing @ wide(state)).to(state.dtype)
        return self.norm(self.computed(predicted)), predicted

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """The predictions, each with its share of what the active one lacked."""
        routed = self.routed(self.computed(skip) + update)
        with uncast(skip):
            shares = 1 + routed @ wide(self.correction).mT
        return torch.addcmul(wide(skip), shares.unsqueeze(-1), wide(update).unsqueeze(-2)).to(skip.dtype)

    def computed(self, streams: Float[Tensor, "*tokens K d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """The active stream."""
        return streams.index_select(-2, self.active).squeeze(-2)

    def routed(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens K"]:
        """`tanh(W_r RMSNorm(x) / d)`, in float32."""
        with uncast(x):
            normed = rms_norm(wide(x), wide(self.router_gain), self.eps)
            return torch.tanh(normed @ wide(self.router).mT / x.shape[-1])


def _with_place(connection: AltUpConnection, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights that were stored without the active stream's place have that of their site."""
    state_dict.setdefault(f"{prefix}active", torch.tensor([connection.place], device="cpu"))


class Projections(nn.Module):
    """A linear map for each stream but the first, and the result brought to a given size."""

    def __init__(self, d_model: int, scheme: AltUp) -> None:
        super().__init__()
        self.std = scheme.std
        self.weight = nn.Parameter(torch.empty(scheme.streams - 1, d_model, d_model))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Random maps; their size has no effect."""
        self.weight.normal_(0.0, self.std)

    def forward(self, first: Float[Tensor, "*tokens d_model"], others: list[Tensor]) -> list[Tensor]:
        """The first stream as it is, and `W_i x_i rms(first) / rms(W_i x_i)` for the others."""
        size, results = _rms(first, torch.finfo(torch.float32).tiny), [first]
        for weight, x in zip(self.weight, others, strict=True):
            y = wide(F.linear(x, weight))
            results.append((y * size / _rms(y, LEAST_SQUARE)).to(first.dtype))
        return results


def _rms(x: Float[Tensor, "*tokens d_model"], least: float) -> Float[Tensor, "*tokens 1"]:
    """Each token's root mean square; the root's own slope has no bound at zero, so the square has a least value."""
    return wide(x).square().mean(-1, keepdim=True).clamp_min(least).sqrt()


class AltUpEntrance(nn.Module):
    """The embedding, and maps of it of the same size."""

    def __init__(self, d_model: int, scheme: AltUp) -> None:
        super().__init__()
        self.projections = Projections(d_model, scheme)

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens K d_model"]:
        """The first state."""
        others = [embedding] * len(self.projections.weight)
        return torch.stack(self.projections(embedding, others), dim=-2)


class AltUpExit(Exit):
    """The mean of the first stream and of maps of the others, brought to its size."""

    def __init__(self, d_model: int, scheme: AltUp) -> None:
        super().__init__(d_model, scheme.norm)
        self.projections = Projections(d_model, scheme)

    def collapse(self, state: Float[Tensor, "*tokens K d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """One vector a token, before the final norm."""
        first, *others = state.unbind(-2)
        return torch.stack(self.projections(first, others)).mean(0)


@dataclass(frozen=True, kw_only=True)
class AltUp(Scheme):
    """AltUp: K streams of which a sublayer computes one; the others are predicted, then corrected by what it found.

        P = X + mat(W_p t(X_a)) X;    y = F(n(P_a));    X_i <- P_i + (1 + W_c t(P_a + y))_i y
        t(x) = tanh(W_r RMSNorm(x) / d),  X in R^{K x d};    hidden = n((X_0 + sum_i U_i X_i) / K)
        X_0 = x,  X_i = W_i x  at the entrance;  W_i x and U_i X_i are brought to the RMS of X_0

    A wider stream at nearly the cost of one. In the form of Gemma 3n, where stream 0 is the active one everywhere;
    the paper lets the active one alternate too, and predicts and corrects by weights that do not depend on the token.

    Reference: Baykal et al. 2023, arXiv:2301.13310 (NeurIPS 2023); the router as in Gemma3nTextAltUp of transformers
    5.23.
    Cost: Kd + K^3 + K^2 + d parameters a sublayer beside the norm, and 2(K - 1)d^2 at entrance and exit; 2 K d +
    (K + 1) K d multiplications a token and sublayer; residual traffic about (4K + 4)d a token and sublayer, state Kd.
    Deviation: there a layer of attention and feed-forward is predicted and corrected as a whole; here each sublayer is.
    Deviation: Gemma 3n clips `W_p` and `W_c` at 120 in training; its layers have peri-norms, LAuReL and embeddings of
    their own beside, which are no part of this scheme.

    Args:
        streams: K; at least 2.
        select: the active stream: "same", stream 0 at every site, or "alternating", stream i mod K at site i.
        std: of the initial matrices.
        eps: added to the mean square in the router.
    """

    norm: NormKind = "rms"
    streams: int = 4
    select: Select = "same"
    std: float = 0.02
    eps: float = 1e-6

    diagram: ClassVar[str] = "streams:4 fork skip:predict mix:P_a box:n sublayer scale:correct add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("streams", self.streams)
        if self.streams < 2:
            raise UserError(f"streams={self.streams} is not allowed; use 2 or more.")
        if self.select not in get_args(Select):
            raise unknown("select", str(self.select), get_args(Select))
        check_positive("std", self.std)
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm, the router, and the maps to prediction and correction."""
        return AltUpConnection(d_model, site, self)

    def entrance(self, d_model: int) -> nn.Module:
        """A map for each stream but the first."""
        return AltUpEntrance(d_model, self)

    def exit(self, d_model: int) -> Exit:
        """A map for each stream but the first, the mean, and the final norm."""
        return AltUpExit(d_model, self)
