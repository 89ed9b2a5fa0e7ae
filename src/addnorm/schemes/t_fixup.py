"""T-Fixup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes._plain_add import PlainAddConnection


def t_fixup_factors(site: Site) -> tuple[float, float]:
    """T-Fixup's factors on the initial value path at a site, and on the embedding of its stack.

    >>> [round(factor, 4) for factor in t_fixup_factors(Site(index=0, depth=36, layer=0, num_layers=12))]
    [0.3102, 0.3102]
    """
    on_embedding = (9 * site.num_layers) ** -0.25
    return (0.67 * site.num_layers**-0.25 if site.side == "encoder" else on_embedding), on_embedding


@dataclass(frozen=True, kw_only=True)
class TFixup(Scheme):
    """T-Fixup: no norm at all; initial values so small that the sum needs none, and training no warm-up.

        x <- x + F(x);    hidden = x

    Of Glorot's initial values (`init="xavier"`), W_v, W_o, W_1 and W_2 are scaled by `(9 M)^(-1/4)` in a decoder of M
    layers and by `0.67 L^(-1/4)` in an encoder of L; queries and keys are not. The decoder's embedding is scaled by
    `(9 M)^(-1/4)`, the encoder's by `(9 L)^(-1/4)`.

    Reference: Huang et al. 2020 (ICML); Zhang et al. 2019, arXiv:1901.09321 (Fixup, whose argument it carries over).
    Cost: no parameters; residual traffic 3d a token and sublayer.
    Deviation: the embedding is scaled where the first sublayer reads it, not in its table, so that tied logits keep
    their size. The paper has decoders with cross-attention only: a decoder alone takes the same `(9 M)^(-1/4)`, which
    is cautious for its two sublayers a layer. The paper has one depth for both sides; where they differ each embedding
    takes its own side's, as in the authors' code.
    """

    norm: NormKind = field(init=False, default="none")

    diagram: ClassVar[str] = "fork sublayer add"

    def connection(self, d_model: int, site: Site) -> Connection:
        """No parameter; the first scales the embedding."""
        return PlainAddConnection(t_fixup_factors(site)[1] if site.index == 0 else 1.0)

    @torch.no_grad()
    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """Scale the whole value path."""
        for linear in value_path:
            linear.weight.mul_(t_fixup_factors(site)[0])
