"""DenseFormer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_count
from addnorm.config import OptimizerRule
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import CarryingConnection, FirstKept, KeepingConnection, OutputsKept, StreamExit
from addnorm.schemes._weighted_sum import weighted_sum
from addnorm.schemes.pre_norm import PreNorm


class AveragingConnection(KeepingConnection):
    """`x + F(norm(x))`, which is kept, and then the stream is the weighted sum of what is kept.

    Args:
        d_model: the width.
        norm: of what the sublayer reads.
        count: how many are summed.
        dilation: every which of the kept ones, counted from the last, is summed.
    """

    def __init__(self, d_model: int, norm: NormKind, count: int, dilation: int) -> None:
        super().__init__(d_model, norm)
        self.dilation = dilation
        self.weights = nn.Parameter(torch.empty(count))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """All weight on the newest."""
        self.weights.zero_()
        self.weights[-1] = 1.0

    def write(self, skip: OutputsKept, update: Tensor) -> OutputsKept:
        """Add, keep the sum, average."""
        kept = super().write(skip, update).kept
        chosen = kept[::-1][:: self.dilation][::-1]
        return OutputsKept(weighted_sum(self.weights.unbind(), chosen), kept)


@dataclass(frozen=True, kw_only=True)
class DenseFormer(Scheme):
    """DenseFormer: after each layer the stream is a learned weighted sum of all layers' outputs and the embedding.

        y_l = layer_l(x_l), Pre-LN;    x_{l+1} = a_{l,0} * embedding + sum_{j<=l} a_{l,j+1} * y_j;    hidden = n(x)

    The y_j are the layers' outputs before the averaging. Initially the newest has weight 1, all others 0: Pre-LN. With
    `dilation` k only every k-th of them is summed, counted from the newest; with `period` p only every p-th layer is
    followed by a sum.

    Reference: Pagliardini et al. 2024, arXiv:2402.02622.
    Cost: d to 2d parameters a sublayer (the norm) and about (l + 2) / k a layer; residual traffic of (l + 2)d / k a
    token after layer l beside Pre-LN's; all layers' outputs are kept, (L + 1)d a token.

    Args:
        dilation: k; 1 sums all.
        period: p; 1 sums after every layer.
    """

    dilation: int = 1
    period: int = 1

    diagram: ClassVar[str] = "fork box:n sublayer add mix:α"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("dilation", self.dilation)
        check_count("period", self.period)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding is the first of the history."""
        return FirstKept()

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, and at the last sublayer of a layer the weights."""
        if not site.closes_layer:
            return CarryingConnection(d_model, self.norm)
        if (site.layer + 1) % self.period:
            return KeepingConnection(d_model, self.norm)
        return AveragingConnection(d_model, self.norm, (site.layer + 1) // self.dilation + 1, self.dilation)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return StreamExit(d_model, self.norm)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: all weight is on the newest output."""
        return PreNorm(norm=self.norm)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The weights decay, as in the authors' code."""
        return OptimizerRule(decays=own is not None and own.endswith("weights"))
