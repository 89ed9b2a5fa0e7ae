"""Dong 2021: attention alone makes all tokens equal, doubly exponentially in the depth; skips prevent it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.layers.attention import Attention
from addnorm.layers.initialise import generator_for, initialise_
from addnorm.stack import Stack
from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.statistics import Estimate, estimate

ORDER = 2.0
FLOOR = 1e-15  # of float64, relative
KEPT = 0.1
LABELS = {"plain": "attention alone", "pre-norm": "attention with skips"}


@dataclass(frozen=True, kw_only=True)
class SkipsPreventRankCollapse(Claim):
    """`||X - 1 mean_tokens(X)||_F / ||X||_F` after each attention layer; no norms, no feed-forward, float64.

    Args:
        layers: how many attentions.
        d_model: the width.
        tokens: in the one sequence.
    """

    layers: int = 6
    d_model: int = 64
    tokens: int = 32

    title: ClassVar[str] = "Attention without skips collapses to rank one doubly exponentially; skips prevent it"
    statement: ClassVar[str] = (
        "The output of self-attention layers without skips and feed-forwards converges to a matrix of equal rows, "
        "with a rate that is itself exponential in the depth; skip connections stop the collapse."
    )
    number: ClassVar[str] = "residual after L layers in proportion to the first one to the power of 3^L"
    about: ClassVar[tuple[str, ...]] = ("plain", "pre-norm")
    reference: ClassVar[str] = "Dong et al. 2021, arXiv:2103.03404"
    experiment: ClassVar[str] = (
        "Six layers of 4-head attention to all tokens, width 64, Glorot weights, 32 random vectors, float64"
    )
    embedding: ClassVar[str] = "random vectors of RMS 1"
    criterion: ClassVar[str] = (
        f"from the second to the third layer the logarithm of the residual grows more than {ORDER} times without "
        f"skips, and with skips the residual stays above {KEPT}"
    )
    axes: ClassVar[Axes] = Axes(x="attention layers passed", y="relative distance from equal rows", log_y=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The distance from equal rows after each layer, with and without skips."""
        lines = {}
        for number, (name, label) in enumerate(LABELS.items(), start=1):
            paths = [self._path(name, seed) for seed in range(self.seeds)]
            by_layer = zip(*paths, strict=True)
            lines[name] = Line(label=label, points={i: tuple(values) for i, values in enumerate(by_layer)})
            progress(number / len(LABELS))
        return lines

    def judge(self, measured: Measured) -> Judgement:
        """The order of convergence without skips, and what is left with them."""
        alone, skipped = measured["plain"], measured["pre-norm"].last
        order = _order(alone)
        return Judgement(
            verdict="reproduced" if order.mean > ORDER and skipped.mean > KEPT else "not reproduced",
            quantity="order of convergence without skips (3 in theory, 1 would be geometric)",
            figure=order,
            sentence=f"Without skips the distance from equal rows is {alone.at(1).mean:.2g}, {alone.at(2).mean:.1e} "
            f"and {alone.at(3).mean:.1e} after 1, 2 and 3 layers, an order of {said(order)}; with skips it is "
            f"{said(skipped)} after {self.layers}.",
        )

    @torch.no_grad()
    def _path(self, name: str, seed: int) -> list[float]:
        """The distance before the first layer and after each."""
        attentions = nn.ModuleList(Attention(self.d_model, 4) for _ in range(self.layers))
        initialise_(attentions, seed)
        stack = Stack(schemes.get(name)(norm="none"), attentions, self.d_model).double()
        x = torch.randn(1, self.tokens, self.d_model, generator=generator_for(seed, "claims/tokens")).double()
        path, state = [_distance(x)], stack.entrance(x)
        for block in stack.blocks:
            state = block(state)
            path.append(_distance(stack.exit.collapse(state)))
        return path


def _distance(x: Tensor) -> float:
    return float((x - x.mean(1, keepdim=True)).norm() / x.norm())


def _order(line: Line) -> Estimate:
    """`log r_3 / log r_2`, r no smaller than rounding can tell."""
    pairs = zip(line.points[2], line.points[3], strict=True)
    return estimate([math.log(max(third, FLOOR)) / math.log(second) for second, third in pairs if 0 < second < 1])
