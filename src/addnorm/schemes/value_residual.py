"""Value residual (ResFormer)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from addnorm.checks import check_finite
from addnorm.errors import UserError, unknown
from addnorm.layers.inside import Inside, Part, Passed, PlaceShape
from addnorm.residual import Scheme, Site
from addnorm.schemes._around import Around

if TYPE_CHECKING:
    from jaxtyping import Float

Mix = Literal["fixed", "learned"]
FIRST = "the first layer's values"


class FirstValues(nn.Module):
    """Leaves its values for later attentions."""

    def forward(self, value: Float[Tensor, "batch heads tokens d_head"], passed: Passed) -> Tensor:
        """The values as they are."""
        passed[FIRST] = value
        return value


class MixedValues(nn.Module):
    """`lambda_1 v_0 + lambda_2 v`."""

    def __init__(self, share: float, mix: Mix) -> None:
        super().__init__()
        self.initial = (share, 1 - share)
        weights = torch.tensor(self.initial)
        self.weights = nn.Parameter(weights) if mix == "learned" else None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The share of the first layer's values, and the rest."""
        if self.weights is not None:
            self.weights.copy_(torch.tensor(self.initial))

    def forward(self, value: Float[Tensor, "batch heads tokens d_head"], passed: Passed) -> Tensor:
        """The mixture."""
        first, own = self.initial if self.weights is None else self.weights.unbind()
        return (first * passed[FIRST] + own * value).to(value.dtype)


@dataclass(frozen=True, kw_only=True)
class ValuesOfLayer(Part):
    """Values of one layer: the first one's are kept, those of the others mixed with them."""

    is_first: bool
    share: float
    mix: Mix

    def build(self, shape: PlaceShape) -> nn.Module:
        """Two numbers at most."""
        return FirstValues() if self.is_first else MixedValues(self.share, self.mix)

    @property
    def gives(self) -> frozenset[str]:
        """The values, in the first layer."""
        return frozenset({FIRST}) if self.is_first else frozenset()

    @property
    def takes(self) -> frozenset[str]:
        """The first layer's values, in the others."""
        return frozenset() if self.is_first else frozenset({FIRST})


@dataclass(frozen=True, kw_only=True)
class ValueResidual(Around):
    """ResFormer: every attention mixes its values with those of the first layer.

        V_l <- lambda_1 * V_0 + lambda_2 * V_l  for l >= 1;    x <- x + Attention(Q_l, K_l, V_l)

    All else is as in the inner scheme. The mixture is made before keys and values are cached, so decoding keeps no
    more than usual. Self-attentions mix with the first self-attention, cross-attentions with the first cross-attention.

    Reference: Zhou et al. 2024, arXiv:2410.17897.
    Cost: none fixed, two parameters an attention learned; one more multiplication of the values.
    Deviation: learned weights start at the fixed ones, two free numbers an attention; the paper also tries a softmax
    over layers.

    Args:
        inner: the scheme that places norms and sums.
        mix: "fixed" weights, or two "learned" ones an attention.
        share: lambda_1, the weight of the first layer's values (at first, if learned); lambda_2 = 1 - lambda_1.
    """

    mix: Mix = "fixed"
    share: float = 0.5

    diagram: ClassVar[str] = "fork box:n mix:V₀ sublayer add"
    drawn: ClassVar[str] = "mix:V₀ sublayer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mix not in get_args(Mix):
            raise unknown("mix", str(self.mix), get_args(Mix))
        check_finite("share", self.share)
        self.inside(_ANY)  # what is refused is refused at once

    def inside(self, site: Site) -> Inside:
        """The inner scheme's, and the values' mixture."""
        inner = super().inside(site)
        if inner.value is not None:
            raise UserError(f"inner={self.inner} changes the values too; take another inner scheme.")
        return replace(inner, value=ValuesOfLayer(is_first=site.layer == 0, share=self.share, mix=self.mix))

    def starts_as(self) -> Scheme | None:
        """The inner scheme, where the first layer's values have no weight."""
        return self.inner if self.share == 0 else None


_ANY = Site(index=0, depth=2, layer=0, num_layers=1, kind="attention")
