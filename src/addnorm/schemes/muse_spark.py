"""The residual gate of Muse Spark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_finite, check_positive
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes.sandwich_norm import SandwichNormConnection

if TYPE_CHECKING:
    from jaxtyping import Float

_LEAST = 1e-3  # of alpha squared


class MuseSparkConnection(SandwichNormConnection):
    """`alpha * x + beta * output_norm(F(input_norm(x)))`, `beta = sigmoid(gate / temperature)`."""

    def __init__(self, d_model: int, scheme: MuseSpark) -> None:
        super().__init__(d_model, scheme.norm, scheme.eps, scheme.output_eps)
        self.init, self.temperature = float(scheme.init), scheme.temperature
        self.gate = nn.Parameter(torch.full((d_model,), self.init))

    def reset_parameters(self) -> None:
        """All gates at their initial value."""
        nn.init.constant_(self.gate, self.init)

    def write(self, skip: Tensor, update: Float[Tensor, "*tokens d_model"]) -> Tensor:
        """Normalise the sublayer's output, then mix."""
        gate = self.gate / self.temperature
        beta = gate.sigmoid()
        # 1 - beta^2, without cancellation where beta is near one.
        alpha = ((-gate).sigmoid() * (1 + beta)).clamp_min(_LEAST).sqrt()
        return alpha * skip + beta * self.output_norm(update)


@dataclass(frozen=True, kw_only=True)
class MuseSpark(Scheme):
    """Muse Spark: a learned gate a feature mixes stream and update so that unit variance stays unit variance.

        b = sigmoid(g / T),  a = sqrt(1 - b^2);    x <- a * x + b * m(F(n(x)));    hidden = n(x)

    g is in R^d, a^2 at least 0.001. The embedding is normalised first: `x <- n(embedding)`.

    Reference: the model Muse Spark in transformers 5.23; Kedia et al. 2024, arXiv:2403.09635 (squares that add up to
    one).
    Cost: 3d to 5d parameters a sublayer (two norms and g); residual traffic 5d a token and sublayer.
    Deviation: there the norm of the embedding and m after the attention have no gain, and m after the feed-forward has
    its gain before the division; here all norms are alike. The initial g of the trained model is not published;
    here it is zero: b = 0.5, a = 0.866.

    Args:
        temperature: T.
        init: the initial g.
        eps: of all norms but m.
        output_eps: of m.
    """

    norm: NormKind = "rms"
    temperature: float = 0.3
    init: float = 0.0
    eps: float = 1e-5
    output_eps: float = 1e-8

    diagram: ClassVar[str] = "fork skip:a box:n sublayer box:m scale:b add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("temperature", self.temperature)
        check_finite("init", self.init)
        check_positive("eps", self.eps)
        check_positive("output_eps", self.output_eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms and one gate a feature."""
        return MuseSparkConnection(d_model, self)

    def entrance(self, d_model: int) -> nn.Module:
        """The norm after the embedding."""
        return make_norm(self.norm, d_model, self.eps)

    def exit(self, d_model: int) -> Exit:
        """The final norm."""
        return Exit(d_model, self.norm, self.eps)
