"""Xiong 2020: the last layer's gradient at initialisation by depth, Pre-LN against Post-LN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, output_weight, signal_flow, toy
from addnorm.studies.experiments.trend import power

EXPECTED = -0.5
WITHIN = 0.2
SHRINKS = -0.1


@dataclass(frozen=True, kw_only=True)
class PreNormLastLayerGradient(FreshClaim):
    """`|| dL / dW_2 ||_F` of the last feed-forward before training: `O(sqrt(1 / L))` in Pre-LN, `O(1)` in Post-LN.

    Args:
        depths: in layers.
        d_model: the width.
    """

    depths: tuple[int, ...] = (4, 16, 64)
    d_model: int = 64

    title: ClassVar[str] = "Pre-LN's last-layer gradient shrinks with depth, Post-LN's does not"
    statement: ClassVar[str] = (
        "At initialisation the gradient of the last feed-forward's output weights is large in Post-LN whatever the "
        "depth, and smaller by the square root of the depth in Pre-LN; that is why Post-LN needs warm-up."
    )
    number: ClassVar[str] = "O(d sqrt(ln d)) for Post-LN, O(d sqrt(ln d / L)) for Pre-LN: exponents of L 0 and -0.5"
    about: ClassVar[tuple[str, ...]] = ("pre-norm", "post-norm")
    reference: ClassVar[str] = "Xiong et al. 2020, arXiv:2002.04745"
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 4, 16 and 64 layers, Glorot weights, one backward on 8 x 32 random tokens and labels"
    )
    criterion: ClassVar[str] = (
        f"Pre-LN's exponent of L lies within {WITHIN} of {EXPECTED}, and Post-LN's is not below {SHRINKS}"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="gradient norm of the last output weights", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The gradient norm by depth under both schemes."""

        def gradient(scheme: str, depth: float, seed: int) -> float:
            model = toy(scheme, int(depth), seed, start, d_model=self.d_model)
            signal_flow(model, seed)
            weight = output_weight(model, -1)
            assert weight.grad is not None
            return float(weight.grad.norm())

        labels = {"pre-norm": "Pre-LN", "post-norm": "Post-LN"}
        return lines_over(labels, self.depths, self.seeds, progress, gradient)

    def judge_at(self, measured: Measured) -> Judgement:
        """Both exponents of the depth."""
        pre, post = power(measured["pre-norm"]), power(measured["post-norm"])
        holds = abs(pre.mean - EXPECTED) <= WITHIN and post.mean >= SHRINKS
        deepest = max(self.depths)
        ends = f"at {deepest} layers {said(measured['pre-norm'].last)} and {said(measured['post-norm'].last)}"
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity="exponent of the depth in Pre-LN's last gradient",
            figure=pre,
            sentence=f"The last gradient goes as L to the {said(pre)} in Pre-LN and to the {said(post)} in Post-LN "
            f"({ends}).",
        )
