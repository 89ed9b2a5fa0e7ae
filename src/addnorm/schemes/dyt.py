"""DyT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from addnorm.checks import check_positive
from addnorm.layers.norm import NormKind
from addnorm.layers.saturation import DynamicTanh
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._saturated import EmbeddingScale, SaturatedConnection, SaturatedExit


@dataclass(frozen=True, kw_only=True)
class Dyt(Scheme):
    """DyT: Pre-LN with a learned tanh in place of each norm, and a learned scale on the embedding.

        x <- c * embedding;    x <- x + F(t(x));    hidden = t(x),    t(x) = gamma * tanh(alpha * x) + beta

    c starts at sqrt(d), alpha (a scalar for each t) at 0.5. Language models want a larger alpha before the attention,
    the smaller the wider the model: the authors' LLaMA has 0.8 there and 0.2 elsewhere at width 4096, 0.6 and 0.15 at
    5120, 0.2 and 0.05 at 8192. In another scheme `norm=tanh` takes this t, with 0.5, for a norm.

    Reference: Zhu et al. 2025, arXiv:2503.10622.
    Cost: 2d + 1 parameters a sublayer; residual traffic 3d a token and sublayer; no reduction over features.
    Deviation: the authors' LLaMA has t without beta, as RMSNorm has none; here it has one, as in their other models.

    Args:
        alpha: the initial alpha, but for what follows.
        attention_alpha: the initial alpha before an attention; None = alpha.
    """

    norm: NormKind = field(init=False, default="tanh")
    alpha: float = 0.5
    attention_alpha: float | None = None

    diagram: ClassVar[str] = "fork box:tanh sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)
        if self.attention_alpha is not None:
            check_positive("attention_alpha", self.attention_alpha)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One tanh."""
        apart = self.alpha if self.attention_alpha is None else self.attention_alpha
        alpha = apart if site.kind in ("attention", "cross-attention") else self.alpha
        return SaturatedConnection(DynamicTanh(d_model, alpha))

    def entrance(self, d_model: int) -> nn.Module:
        """The learned scale."""
        return EmbeddingScale(d_model)

    def exit(self, d_model: int) -> Exit:
        """A last tanh."""
        return SaturatedExit(d_model, DynamicTanh(d_model, self.alpha))
