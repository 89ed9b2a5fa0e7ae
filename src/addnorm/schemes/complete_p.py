"""CompleteP and Depth-muP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.checks import check_at_least, check_positive
from addnorm.config import OptimizerRule
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.pre_norm import PreNormConnection

if TYPE_CHECKING:
    from jaxtyping import Float


class ScaledUpdateConnection(PreNormConnection):
    """`x + factor * F(norm(x))`."""

    def __init__(self, d_model: int, norm: NormKind, factor: float) -> None:
        super().__init__(d_model, norm)
        self.factor = factor

    def write(self, skip: Tensor, update: Float[Tensor, "*tokens d_model"]) -> Tensor:
        """Scale, then add."""
        return skip + self.factor * update


@dataclass(frozen=True, kw_only=True)
class CompleteP(Scheme):
    """CompleteP: Pre-LN whose updates, learning rates and Adam's eps are scaled by the depth, relative to a base depth.

        x <- x + m^(-alpha) * F(n(x)),  m = L / L_base;    hidden = n(x)

    In the layers (weights, biases, norms) the learning rate has the factor `m^(alpha - 1)` and Adam's eps `m^(-alpha)`;
    embedding, head and final norm keep theirs. What is tuned at L_base layers is then right at L. Alpha is 1 in
    CompleteP, where the learning rate stays the same, and 1/2 in Depth-muP.

    Reference: Dey et al. 2025, arXiv:2505.01618; Yang et al. 2023, arXiv:2310.02244 (Depth-muP).
    Cost: as Pre-LN: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer.
    Deviation: the rules for the width (learning rates, initial weights, logits, attention scale) are left out: they
    are not about the residual connection. Only the layers' eps is scaled; the authors' code (nanoGPT-mup, branch
    completep) scales that of all parameters, embedding and final norm included.

    Args:
        base_layers: L_base, the number of layers that the learning rate was tuned at; a factor m of 1 is Pre-LN.
        alpha: 1 is CompleteP, 0.5 is Depth-muP.
    """

    base_layers: int = 2
    alpha: float = 1.0

    diagram: ClassVar[str] = "fork box:n sublayer scale:L₀/L add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("base_layers", self.base_layers, 1)
        check_positive("alpha", self.alpha)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return ScaledUpdateConnection(d_model, self.norm, self._multiple(site) ** -self.alpha)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """By the depth in the layers, as always elsewhere."""
        if site is None:
            return OptimizerRule()
        m = self._multiple(site)
        return OptimizerRule(learning_rate=m ** (self.alpha - 1), eps=m**-self.alpha)

    def _multiple(self, site: Site) -> float:
        return site.num_layers / self.base_layers
