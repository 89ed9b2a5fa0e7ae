"""Orthogonal residual updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.checks import check_positive
from addnorm.kernels.precision import wide
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.pre_norm import PreNormConnection

if TYPE_CHECKING:
    from jaxtyping import Float


class OrthogonalConnection(PreNormConnection):
    """`x + F(norm(x))` without the part of F along x."""

    def __init__(self, d_model: int, norm: NormKind, eps: float) -> None:
        super().__init__(d_model, norm)
        self.eps = eps

    def write(self, skip: Tensor, update: Float[Tensor, "*tokens d_model"]) -> Tensor:
        """Take out of each token's update what lies along its stream, then add."""
        x, f = wide(skip), wide(update)
        along = (f * x).sum(-1, keepdim=True) / (x.square().sum(-1, keepdim=True) + self.eps)
        return (x + (f - along * x)).to(skip.dtype)


@dataclass(frozen=True, kw_only=True)
class OrthogonalResidual(Scheme):
    """Orthogonal residual: Pre-LN that adds only the part of each update that is orthogonal to the stream.

        x <- x + F - (<F, x> / (<x, x> + eps)) * x,  F = F(n(x));    hidden = n(x)

    The products are over the features of one token; taken over all tokens at once they would let the future leak.

    Reference: Oh et al. 2025, arXiv:2505.11881.
    Cost: as Pre-LN: d to 2d parameters a sublayer (the norm); residual traffic 5d a token and sublayer.

    Args:
        eps: added to the squared length of the stream.
    """

    eps: float = 1e-6

    diagram: ClassVar[str] = "fork box:n sublayer box:⊥x add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return OrthogonalConnection(d_model, self.norm, self.eps)
