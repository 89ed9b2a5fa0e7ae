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

    c starts at sqrt(d), alpha and s (scalars for each e) at 0.5 and 0. The authors' GPT-2 sets the initial alpha before
    the attention, before the feed-forward and at the end apart, 1 each where nothing else is said. In another scheme
    `norm=erf` takes this e for a norm.

    Reference: Chen et al. 2025, arXiv:2512.10938, after the language model of github.com/zlab-princeton/Derf.
    Cost: 2d + 2 parameters a sublayer; residual traffic 3d a token and sublayer; no reduction over features.

    Args:
        alpha: the initial alpha, but for what follows.
        attention_alpha: the initial alpha before an attention; None = alpha.
        final_alpha: the initial alpha of the last e; None = alpha.
    """

    norm: NormKind = field(init=False, default="erf")
    alpha: float = 0.5
    attention_alpha: float | None = None
    final_alpha: float | None = None

    diagram: ClassVar[str] = "fork box:erf sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)
        for name in ("attention_alpha", "final_alpha"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))

    def connection(self, d_model: int, site: Site) -> Connection:
        """One error function."""
        apart = self.alpha if self.attention_alpha is None else self.attention_alpha
        alpha = apart if site.kind in ("attention", "cross-attention") else self.alpha
        return SaturatedConnection(saturation.Derf(d_model, alpha))

    def entrance(self, d_model: int) -> nn.Module:
        """The learned scale."""
        return EmbeddingScale(d_model)

    def exit(self, d_model: int) -> Exit:
        """A last error function."""
        alpha = self.alpha if self.final_alpha is None else self.final_alpha
        return SaturatedExit(d_model, saturation.Derf(d_model, alpha))
