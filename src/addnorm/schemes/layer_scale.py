"""LayerScale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class LayerScaleConnection(Connection):
    """`x + scale * F(norm(x))`, one scale a feature."""

    def __init__(self, d_model: int, norm: NormKind, init: float) -> None:
        super().__init__()
        self.init = init
        self.norm = make_norm(norm, d_model)
        self.scale = nn.Parameter(torch.full((d_model,), init))

    def reset_parameters(self) -> None:
        """All scales at their initial value."""
        nn.init.constant_(self.scale, self.init)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The normalised stream; the stream itself is the skip."""
        return self.norm(state), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Scale each feature, then add."""
        return skip + self.scale * update


@dataclass(frozen=True, kw_only=True)
class LayerScale(Scheme):
    """LayerScale: Pre-LN with a small learned factor on each feature of the sublayer's output.

        x <- x + g * F(n(x)),  g in R^d;    hidden = n(x)

    At initialisation g is 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 in deeper stacks.

    Reference: Touvron et al. 2021, arXiv:2103.17239.
    Cost: 2d to 3d parameters a sublayer (the norm and g); residual traffic 3d a token and sublayer.
    Deviation: the paper names the depths 18, 24 and deeper; the depths between are filled up as above.

    Args:
        init: the initial g; None = by depth, as above.
    """

    init: float | None = None

    diagram: ClassVar[str] = "fork box:n sublayer scale:g add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init is not None:
            check_at_least("init", self.init, 0)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm and one factor a feature."""
        init = _by_depth(site.num_layers) if self.init is None else float(self.init)
        return LayerScaleConnection(d_model, self.norm, init)

    def starts_as(self) -> Scheme | None:
        """Pre-LN when the factor starts at one."""
        return PreNorm(norm=self.norm) if self.init == 1 else None


def _by_depth(num_layers: int) -> float:
    """CaiT's initial factor for a number of layers."""
    if num_layers <= 18:
        return 0.1
    return 1e-5 if num_layers <= 24 else 1e-6
