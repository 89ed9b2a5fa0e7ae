"""U-net skips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.checks import check_finite
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import CarryingConnection, StreamExit
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class Pile(NamedTuple):
    """The stream, and the outputs that still wait, the newest last."""

    stream: Float[Tensor, "*tokens d_model"]
    waiting: tuple[Float[Tensor, "*tokens d_model"], ...]


class EmptyPile(nn.Module):
    """The embedding, and nothing that waits."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Pile:
        """The first state."""
        return Pile(embedding, ())


class PushingConnection(CarryingConnection):
    """`x + F(norm(x))`; closes a layer of the first half, whose output is put on the pile."""

    def write(self, skip: Pile, update: Tensor) -> Pile:
        """Add; put the sum on the pile."""
        x = skip.stream + update
        return Pile(x, (*skip.waiting, x))


class PoppingConnection(CarryingConnection):
    """`x + F(norm(x))` after `x <- x + weight * newest of the pile`; opens a layer of the second half."""

    def __init__(self, d_model: int, norm: NormKind, weight: float) -> None:
        super().__init__(d_model, norm)
        self.initial = weight
        # One element, not a scalar tensor: FSDP2 cannot shard those.
        self.weight = nn.Parameter(torch.full((1,), weight))

    def reset_parameters(self) -> None:
        """The same in all layers."""
        nn.init.constant_(self.weight, self.initial)

    def read(self, state: Pile) -> tuple[Float[Tensor, "*tokens d_model"], Pile]:
        """The normalised sum; the sum and the rest of the pile are the skip."""
        *rest, newest = state.waiting
        x = state.stream + self.weight * newest
        return self.norm(x), Pile(x, tuple(rest))


@dataclass(frozen=True, kw_only=True)
class UnetSkips(Scheme):
    """U-net skips: the outputs of the first half's layers are added again in the second half, the last first.

        x <- x + w_l * y_{L-1-l}  before layer l of the second half;    x <- x + F(n(x));    hidden = n(x)

    y_j is the output of layer j. With an odd number of layers the middle one has no part in it. The first of the second
    half gets what it has on the stream already, so that at w = 1 the stream is doubled.

    Reference: Jordan et al. 2024, github.com/KellerJordan/modded-nanogpt (record of November 2024); Ronneberger et al.
    2015, arXiv:1505.04597 (U-Net); Bao et al. 2022, arXiv:2209.12152 (in a Transformer).
    Cost: d to 2d parameters a sublayer (the norm) and 1 a layer of the second half; residual traffic of 2d a token and
    layer beside Pre-LN's; up to L / 2 outputs wait, Ld / 2 a token.
    Deviation: U-Net and the Transformer of Bao et al. concatenate and project; this is the weighted sum of
    modded-nanogpt, whose norm has no gain.

    Args:
        init: of the weights; modded-nanogpt starts them at 1.
    """

    norm: NormKind = "rms"
    init: float = 1.0

    diagram: ClassVar[str] = "mix:x+w·y fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite("init", self.init)

    def entrance(self, d_model: int) -> nn.Module:
        """Nothing waits yet."""
        return EmptyPile()

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, and at the first sublayer of a layer of the second half the weight."""
        half = site.num_layers // 2
        if site.layer < half and site.closes_layer:
            return PushingConnection(d_model, self.norm)
        if site.layer >= site.num_layers - half and site.opens_layer:
            return PoppingConnection(d_model, self.norm, float(self.init))
        return CarryingConnection(d_model, self.norm)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return StreamExit(d_model, self.norm)

    def starts_as(self) -> Scheme | None:
        """Pre-LN when all weights start at zero."""
        return PreNorm(norm=self.norm) if self.init == 0 else None
