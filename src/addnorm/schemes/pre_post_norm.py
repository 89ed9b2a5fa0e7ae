"""Pre-and-post norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.checks import check_positive
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class PrePostNormConnection(Connection):
    """`post_norm(alpha * x + F(pre_norm(x)))`."""

    def __init__(self, d_model: int, norm: NormKind, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.pre_norm = make_norm(norm, d_model)
        self.post_norm = make_norm(norm, d_model)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The normalised stream; the stream itself is the skip."""
        return self.pre_norm(state), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Add to the scaled skip, then normalise the sum."""
        return self.post_norm(self.alpha * skip + update)


@dataclass(frozen=True, kw_only=True)
class PrePostNorm(Scheme):
    """Pre-and-post norm: normalise what the sublayer reads, and again the sum.

        x <- m(alpha * x + F(n(x)));    hidden = x

    With one composed sublayer a layer (`arrangement="composed"`) this is `z = LN(x + FFN(Attn(LN(x))))`; with alpha =
    number of sublayers it is KEEL.

    Reference: Chen and Wei 2026, arXiv:2601.19895 (whose alpha is the number of sublayers).
    Cost: 2d to 4d parameters a sublayer (two norms); residual traffic 5d a token and sublayer.

    Args:
        alpha: factor on the skip.
    """

    alpha: float = 1.0

    diagram: ClassVar[str] = "fork skip:α box:n sublayer add box:m"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms, no other parameter."""
        return PrePostNormConnection(d_model, self.norm, self.alpha)

    def exit(self, d_model: int) -> Exit:
        """The stream is normalised already."""
        return Exit(d_model, "none")
