"""Derf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from addnorm.checks import check_positive
from addnorm.layers import saturation
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._saturated import EmbeddingScale, SaturatedConnection, SaturatedExit


@dataclass(frozen=True, kw_only=True)
class Derf(Scheme):
    """Derf: Pre-LN with a learned error function in place of each norm, and a learned scale on the embedding.

        x <- c * embedding;    x <- x + F(e(x));    hidden = e(x),    e(x) = gamma * erf(alpha * x + s) + beta

    c starts at sqrt(d), alpha and s (scalars for each e) at 0.5 and 0. In another scheme `norm=erf` takes this e for
    a norm.

    Reference: Chen et al. 2025, arXiv:2512.10938.
    Cost: 2d + 2 parameters a sublayer; residual traffic 3d a token and sublayer; no reduction over features.
    Deviation: the scale on the embedding is DyT's; whether the authors keep it could not be found.

    Args:
        alpha: the initial alpha.
    """

    norm: NormKind = field(init=False, default="erf")
    alpha: float = 0.5

    diagram: ClassVar[str] = "fork box:erf sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One error function."""
        return SaturatedConnection(saturation.Derf(d_model, self.alpha))

    def entrance(self, d_model: int) -> nn.Module:
        """The learned scale."""
        return EmbeddingScale(d_model)

    def exit(self, d_model: int) -> Exit:
        """A last error function."""
        return SaturatedExit(d_model, saturation.Derf(d_model, self.alpha))
