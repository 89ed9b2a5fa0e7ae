"""ResiDual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from addnorm.checks import check_positive
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class Dual(NamedTuple):
    """The Post-LN stream, and the sum of all that was written."""

    stream: Float[Tensor, "*tokens d_model"]
    total: Float[Tensor, "*tokens d_model"]


class DualConnection(Connection):
    """`x <- n(x + F(x))`, `r <- r + c F(x)`."""

    def __init__(self, d_model: int, norm: NormKind, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.norm = make_norm(norm, d_model)

    def read(self, state: Dual) -> tuple[Float[Tensor, "*tokens d_model"], Dual]:
        """The Post-LN stream; both are the skip."""
        return state.stream, state

    def write(self, skip: Dual, update: Tensor) -> Dual:
        """Add to both, normalise the first."""
        return Dual(self.norm(skip.stream + update), skip.total + self.scale * update)


class DualEntrance(nn.Module):
    """`x` and `r = c x`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Dual:
        """The embedding, and the first term of the sum."""
        return Dual(embedding, self.scale * embedding)


class DualExit(Exit):
    """`x + n(r)`; no norm follows."""

    def __init__(self, d_model: int, norm: NormKind) -> None:
        super().__init__(d_model, "none")
        self.total_norm = make_norm(norm, d_model)

    def collapse(self, state: Dual) -> Float[Tensor, "*tokens d_model"]:
        """The Post-LN stream and the normalised sum."""
        return state.stream + self.total_norm(state.total)


@dataclass(frozen=True, kw_only=True)
class ResiDual(Scheme):
    """ResiDual: Post-LN, beside which the sum of all updates is carried to the end, as in Pre-LN.

        x <- n(x + F(x));    r <- r + c F(x);    r = c x at the entrance;    hidden = x + n(r)

    The sum `r` is never read by a sublayer; it gives each of them a gradient that no norm stands in the way of.

    Reference: Xie et al. 2023, arXiv:2304.14802, after github.com/microsoft/ResiDual.
    Cost: as Post-LN, and one norm more at the exit; residual traffic 5d a token and sublayer, state 2d.
    Deviation: the authors' last norm has an eps of 1e-7, so that a small c changes nothing; here it is 1e-5, the eps of
    all norms.

    Args:
        scale: c; below 1 it keeps the sum of a deep stack within the range of float16.
    """

    scale: float = 1.0

    diagram: ClassVar[str] = "streams:2 fork sublayer add box:n"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("scale", self.scale)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return DualConnection(d_model, self.norm, self.scale)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding, and c times it."""
        return DualEntrance(self.scale)

    def exit(self, d_model: int) -> Exit:
        """The norm of the sum, added to the stream."""
        return DualExit(d_model, self.norm)
