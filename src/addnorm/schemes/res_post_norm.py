"""Res-post-norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from addnorm.checks import check_at_least
from addnorm.errors import UserError
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.rezero import ReZero

if TYPE_CHECKING:
    from jaxtyping import Float


class ResPostNormConnection(Connection):
    """`x + norm(F(x))`."""

    def __init__(self, d_model: int, norm: NormKind, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.norm = make_norm(norm, d_model)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The norm's gain at its initial value."""
        if isinstance(weight := getattr(self.norm, "weight", None), nn.Parameter):
            nn.init.constant_(weight, self.gain)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The stream as it is, twice."""
        return state, state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Normalise the sublayer's output, then add."""
        return skip + self.norm(update)


@dataclass(frozen=True, kw_only=True)
class ResPostNorm(Scheme):
    """Res-post-norm: normalise what the sublayer writes, not what it reads, then add.

        x <- x + m(F(x));    hidden = n(x)

    Queries and keys grow with the stream, so the attention needs a norm of its own: `qk_norm="rms"` in the model.

    Reference: Liu et al. 2021, arXiv:2111.09883 (Swin Transformer V2); OLMo Team 2025, arXiv:2501.00656 (OLMo 2).
    Cost: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer.
    Deviation: OLMo 2 starts m's gain at one, as here; Swin-V2's code starts it at zero, which is `gain=0`.

    Args:
        gain: the initial gain of m.
    """

    gain: float = 1.0

    diagram: ClassVar[str] = "fork sublayer box:m add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("gain", self.gain, 0)
        if self.norm == "none" and self.gain != 1:
            raise UserError(f"gain={self.gain} needs a norm to be the gain of, and norm='none'; leave gain out.")

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return ResPostNormConnection(d_model, self.norm, self.gain)

    def starts_as(self) -> Scheme | None:
        """With gain zero it is ReZero with a norm before training: no update reaches the stream."""
        return ReZero(norm=self.norm) if self.gain == 0 else None
