"""Sandwich-LN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.layers.norm import EPS, NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class SandwichNormConnection(Connection):
    """`x + output_norm(F(input_norm(x)))`.

    Args:
        d_model: the width.
        norm: of both norms.
        eps: of the input norm.
        output_eps: of the output norm; None = eps.
    """

    def __init__(self, d_model: int, norm: NormKind, eps: float = EPS, output_eps: float | None = None) -> None:
        super().__init__()
        self.input_norm = make_norm(norm, d_model, eps)
        self.output_norm = make_norm(norm, d_model, eps if output_eps is None else output_eps)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The normalised stream; the stream itself is the skip."""
        return self.input_norm(state), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Normalise the sublayer's output, then add."""
        return skip + self.output_norm(update)


@dataclass(frozen=True, kw_only=True)
class SandwichNorm(Scheme):
    """Sandwich-LN: normalise what the sublayer reads and what it writes, then add.

        x <- x + m(F(n(x)));    hidden = n(x)

    The stream's variance grows by one a sublayer, never exponentially. Peri-LN is this with a norm after the embedding.

    Reference: Ding et al. 2021, arXiv:2105.13290.
    Cost: 2d to 4d parameters a sublayer (two norms); residual traffic 5d a token and sublayer.
    """

    diagram: ClassVar[str] = "fork box:n sublayer box:m add"

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms, no other parameter."""
        return SandwichNormConnection(d_model, self.norm)
