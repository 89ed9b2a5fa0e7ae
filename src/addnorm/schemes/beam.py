"""The depth-scaled sum of Beam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.checks import check_positive
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes.sandwich_norm import SandwichNormConnection

if TYPE_CHECKING:
    from jaxtyping import Float


class RunningMeanConnection(SandwichNormConnection):
    """`sqrt((k - 1) / k) * x + sqrt(1 / k) * output_norm(F(input_norm(x)))`."""

    def __init__(self, d_model: int, norm: NormKind, eps: float, count: int) -> None:
        super().__init__(d_model, norm, eps)
        self.on_skip, self.on_update = ((count - 1) / count) ** 0.5, count**-0.5

    def write(self, skip: Tensor, update: Float[Tensor, "*tokens d_model"]) -> Tensor:
        """Normalise the sublayer's output, then add it with the weight of one among k."""
        return self.on_skip * skip + self.on_update * self.output_norm(update)


@dataclass(frozen=True, kw_only=True)
class Beam(Scheme):
    """Beam: a running sum that keeps the variance at one and gives embedding and all updates the same weight.

        x <- sqrt((k - 1) / k) * x + sqrt(1 / k) * m(F(n(x))),  k = 2, 3, 4 ...;    hidden = n(x)

    After k - 1 sublayers the stream is (embedding + all normalised updates) / sqrt(k): Sandwich-LN divided by the root
    of what it has summed up.

    Reference: the model Beam in transformers 5.23; Kedia et al. 2024, arXiv:2403.09635 (squares that add up to one).
    Cost: 2d to 4d parameters a sublayer (two norms); residual traffic 5d a token and sublayer.

    Args:
        eps: of the norms.
    """

    norm: NormKind = "rms"
    eps: float = 1e-6

    diagram: ClassVar[str] = "fork skip:√(k-1)/k box:n sublayer box:m scale:√1/k add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms, no other parameter."""
        return RunningMeanConnection(d_model, self.norm, self.eps, site.index + 2)

    def exit(self, d_model: int) -> Exit:
        """The final norm."""
        return Exit(d_model, self.norm, self.eps)
