"""Pre-LN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from addnorm.checks import check_positive
from addnorm.layers.norm import NormKind, add_and_norm, make_norm
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

    def hand_over(self, skip: Tensor, update: Tensor, following: Connection) -> tuple[Any, Any]:
        """Add, and normalise the sum for the next site, in one pass."""
        plain = type(self) is type(following) is PreNormConnection
        if plain and isinstance(following, PreNormConnection):
            state, normed = add_and_norm(following.norm, skip, update)
            return normed, state
        return super().hand_over(skip, update, following)


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
