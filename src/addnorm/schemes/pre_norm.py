"""Pre-LN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.checks import check_positive
from addnorm.layers.add_norm_route import NormThenAdd
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class PreNormConnection(Connection):
    """`x + F(norm(x))`."""

    def __init__(self, d_model: int, norm: NormKind, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, eps)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The normalised stream; the stream itself is the skip."""
        return self.norm(state), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Add."""
        return skip + update

    def fused(self) -> NormThenAdd:
        """The sum and the next site's norm of it are one pass."""
        return NormThenAdd(norm=self.norm)


@dataclass(frozen=True, kw_only=True)
class PreNorm(Scheme):
    """Pre-LN: normalise what the sublayer reads, add what it writes; one final norm.

        x <- x + F(n(x));    hidden = n(x)

    Reference: Xiong et al. 2020, arXiv:2002.04745.
    Cost: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer, the table's yardstick.

    Args:
        eps: of the norms.
    """

    eps: float = 1e-5

    diagram: ClassVar[str] = "fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return PreNormConnection(d_model, self.norm, self.eps)

    def exit(self, d_model: int) -> Exit:
        """The final norm."""
        return Exit(d_model, self.norm, self.eps)
