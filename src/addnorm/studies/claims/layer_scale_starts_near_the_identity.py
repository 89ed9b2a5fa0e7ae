"""LayerScale's branches get next to no gradient at first; Adam hides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, signal_flow, toy

TINY = 1e-3


@dataclass(frozen=True, kw_only=True)
class LayerScaleStartsNearTheIdentity(FreshClaim):
    """`max_i ||dL/dW_i||` over the sublayers before training, by depth: LayerScale beside Pre-LN.

    Args:
        depths: in layers; the initial scale is 0.1, 1e-5 and 1e-6 there.
    """

    depths: tuple[int, ...] = (12, 24, 48)

    title: ClassVar[str] = "LayerScale's initial scale leaves deep branches next to no gradient"
    statement: ClassVar[str] = (
        "A diagonal of small values on each branch, smaller for deeper nets, makes the net start near the identity. "
        "Its consequence: the branches' gradients are as small at first, which Adam evens out and plain descent not."
    )
    number: ClassVar[str] = "initial scale 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond"
    about: ClassVar[tuple[str, ...]] = ("layer-scale", "pre-norm")
    reference: ClassVar[str] = "Touvron et al. 2021, arXiv:2103.17239"
    experiment: ClassVar[str] = "Decoders of width 64 with 12, 24 and 48 layers, one backward on random tokens"
    criterion: ClassVar[str] = (
        f"at the largest depth LayerScale's largest branch gradient is below {TINY:g} of Pre-LN's, but not zero"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="largest branch gradient", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The largest branch gradient by depth."""

        def gradient(name: str, depth: float, seed: int) -> float:
            return max(signal_flow(toy(name, int(depth), seed, start), seed)["weight_grad_norm"])

        labels = {"layer-scale": "LayerScale", "pre-norm": "Pre-LN"}
        return lines_over(labels, self.depths, self.seeds, progress, gradient)

    def judge_at(self, measured: Measured) -> Judgement:
        """Both gradients at the largest depth."""
        scaled, pre = measured["layer-scale"].last, measured["pre-norm"].last
        return Judgement(
            verdict="reproduced" if 0 < scaled.mean < TINY * pre.mean else "not reproduced",
            quantity=f"largest branch gradient of LayerScale at {max(self.depths)} layers",
            figure=scaled,
            sentence=f"At {max(self.depths)} layers the largest branch gradient is {said(scaled)} with LayerScale and "
            f"{said(pre)} in Pre-LN.",
        )
