"""The bottom-to-top connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import StreamExit

if TYPE_CHECKING:
    from jaxtyping import Float


class WithBottom(NamedTuple):
    """The stream, and the stream as it was at the bottom of the layer."""

    stream: Float[Tensor, "*tokens d_model"]
    bottom: Float[Tensor, "*tokens d_model"]


class BottomConnection(Connection):
    """`norm(x + F(x))`; opens a layer, so the bottom is x."""

    def __init__(self, d_model: int, norm: NormKind) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model)

    def read(self, state: WithBottom) -> tuple[Float[Tensor, "*tokens d_model"], WithBottom]:
        """The stream; stream and bottom are the skip, and here they are the same."""
        return state.stream, WithBottom(state.stream, state.stream)

    def write(self, skip: WithBottom, update: Tensor) -> WithBottom:
        """Add, then normalise the sum; the bottom stays."""
        return skip._replace(stream=self.norm(skip.stream + update))


class MiddleConnection(BottomConnection):
    """`norm(x + F(x))`, the bottom handed on."""

    def read(self, state: WithBottom) -> tuple[Tensor, WithBottom]:
        """The stream; stream and bottom are the skip."""
        return state.stream, state


class TopConnection(MiddleConnection):
    """`norm(bottom + x + F(x))`; closes a layer, so the result is the bottom of the next."""

    def write(self, skip: WithBottom, update: Tensor) -> WithBottom:
        """Add the bottom too, then normalise the sum."""
        top = self.norm(skip.bottom + skip.stream + update)
        return WithBottom(top, top)


class Doubled(nn.Module):
    """The embedding is the stream and the bottom of the first layer."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> WithBottom:
        """Twice the same."""
        return WithBottom(embedding, embedding)


@dataclass(frozen=True, kw_only=True)
class B2T(Scheme):
    """B2T: Post-LN in which the input of each layer skips to the layer's last norm, past the norms between.

        y <- n(x + F_1(x));    x <- n(x + y + F_2(y));    hidden = x

    Gradients then pass one norm a layer, not one a sublayer. In a layer of three sublayers the two first are as in
    Post-LN. Of the initial weights all matrices of the sublayers, queries and keys too, are scaled by `L^(-1/2)` in a
    stack of L layers.

    Reference: Takase et al. 2022, arXiv:2206.00330; the factor as in github.com/takase/b2t_connection.
    Cost: d to 2d parameters a sublayer (the norm); residual traffic 4d a token and sublayer, state 2d.
    Deviation: the authors' code draws queries, keys and values smaller by `2^(-1/2)` before that, as fairseq does; here
    all matrices are drawn as in any scheme.
    """

    diagram: ClassVar[str] = "fork skip:bottom sublayer add box:n"

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter.

        Raises:
            UserError: a layer is a single sublayer, so that there is nothing between its bottom and its top.
        """
        if site.opens_layer and site.closes_layer:
            raise UserError(
                f"b2t needs layers of two sublayers or more, and {site.depth} sublayers came for {site.num_layers} "
                "layers; use arrangement='sequential', or an even number of sublayers in a Stack."
            )
        if site.opens_layer:
            return BottomConnection(d_model, self.norm)
        return (TopConnection if site.closes_layer else MiddleConnection)(d_model, self.norm)

    @torch.no_grad()
    def init_matrices_(self, weights: Sequence[Tensor], site: Site) -> None:
        """Smaller, the deeper the stack."""
        for weight in weights:
            weight.mul_(site.num_layers**-0.5)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding, twice."""
        return Doubled()

    def exit(self, d_model: int) -> Exit:
        """The stream is normalised already."""
        return StreamExit(d_model, "none")
