"""KEEL's and CompleteP's branches get gradients in proportion to one over the depth."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, signal_flow, toy
from addnorm.studies.experiments.trend import power

EXPECTED = -1.0
WITHIN = 0.25


@dataclass(frozen=True, kw_only=True)
class BranchGradientsShrinkAsOneOverDepth(FreshClaim):
    """The mean over sublayers of `||dL/dW||` before training, by depth; its exponent.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "KEEL's and CompleteP's branch gradients shrink as one over the depth"
    statement: ClassVar[str] = (
        "Each of L layers weighs 1/L beside the skip, so that all together change the output by a bounded amount: "
        "with gradients in proportion to 1/L, Adam's epsilon has to shrink likewise."
    )
    number: ClassVar[str] = "L^-1 (CompleteP's alpha = 1; KEEL's skip factor equal to the number of sublayers)"
    about: ClassVar[tuple[str, ...]] = ("keel", "complete-p", "pre-norm")
    reference: ClassVar[str] = "Dey et al. 2025, arXiv:2505.01618; Chen and Wei 2026, arXiv:2601.19895"
    experiment: ClassVar[str] = "Decoders of width 64 with 4, 16 and 64 layers, one backward on random tokens"
    criterion: ClassVar[str] = f"both exponents of the depth lie within {WITHIN} of {EXPECTED}"
    axes: ClassVar[Axes] = Axes(x="layers", y="mean gradient norm of a sublayer", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The mean gradient by depth; Pre-LN beside."""

        def gradient(name: str, depth: float, seed: int) -> float:
            return fmean(signal_flow(toy(name, int(depth), seed, start), seed)["weight_grad_norm"])

        labels = {"keel": "KEEL", "complete-p": "CompleteP", "pre-norm": "Pre-LN"}
        return lines_over(labels, self.depths, self.seeds, progress, gradient)

    def judge_at(self, measured: Measured) -> Judgement:
        """Both exponents."""
        keel, complete = power(measured["keel"]), power(measured["complete-p"])
        holds = all(abs(found.mean - EXPECTED) <= WITHIN for found in (keel, complete))
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity="exponent of the depth in KEEL's gradients",
            figure=keel,
            sentence=f"Branch gradients go as L to the {said(keel)} in KEEL, to the {said(complete)} in CompleteP and "
            f"to the {said(power(measured['pre-norm']))} in Pre-LN.",
        )
