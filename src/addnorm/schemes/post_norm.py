"""Post-LN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from addnorm.checks import check_positive
from addnorm.errors import unknown
from addnorm.layers.add_norm_route import add_and_norm
from addnorm.layers.norm import NORMS, NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class PostNormConnection(Connection):
    """`norm(alpha * x + F(x))`."""

    def __init__(self, d_model: int, norm: NormKind, alpha: float = 1.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.alpha = alpha
        self.norm = make_norm(norm, d_model, eps)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The stream as it is, twice."""
        return state, state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Add, then normalise the sum."""
        return add_and_norm(self.norm, skip, update, self.alpha)[1]


@dataclass(frozen=True, kw_only=True)
class PostNorm(Scheme):
    """Post-LN: add what the sublayer writes, then normalise the sum; the scheme of the first Transformer.

        x <- n(x + F(x));    hidden = x

    BERT (Devlin et al. 2018, arXiv:1810.04805) has one more norm, on the embedding, and a smaller eps:
    `post-norm(entrance_norm=layer, eps=1e-12)`.

    Reference: Vaswani et al. 2017, arXiv:1706.03762.
    Cost: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer.

    Args:
        entrance_norm: the norm on the embedding.
        eps: of the norms.
    """

    entrance_norm: NormKind = "none"
    eps: float = 1e-5

    diagram: ClassVar[str] = "fork sublayer add box:n"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.entrance_norm not in NORMS:
            raise unknown("entrance_norm", str(self.entrance_norm), NORMS)
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return PostNormConnection(d_model, self.norm, eps=self.eps)

    def entrance(self, d_model: int) -> nn.Module:
        """The norm on the embedding, if there is one."""
        return make_norm(self.entrance_norm, d_model, self.eps)

    def exit(self, d_model: int) -> Exit:
        """The stream is normalised already."""
        return Exit(d_model, "none")
