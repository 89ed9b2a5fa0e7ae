"""DeepNorm's gradients have one size at every depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, first_over_last_gradient, toy

LOW, HIGH = 0.5, 2.0


@dataclass(frozen=True, kw_only=True)
class DeepNormGradientsAreEven(FreshClaim):
    """`||dL/dW_2||` of the first feed-forward over that of the last, before training.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "DeepNorm's gradients are as large in the first layer as in the last"
    statement: ClassVar[str] = (
        "Skip factor and initial weights are derived so that all layers share a bounded update; the gradients at "
        "initialisation are then balanced over the layers, however many there are."
    )
    number: ClassVar[str] = "first over last 1"
    about: ClassVar[tuple[str, ...]] = ("deep-norm", "post-norm")
    reference: ClassVar[str] = "Wang et al. 2022, arXiv:2203.00555"
    experiment: ClassVar[str] = "Decoders of width 64 with 4, 16 and 64 layers, one backward on random tokens"
    criterion: ClassVar[str] = f"at every depth the mean ratio lies between {LOW} and {HIGH}"
    axes: ClassVar[Axes] = Axes(x="layers", y="gradient of the first layer over the last", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The ratio by depth; Post-LN beside."""

        def ratio(name: str, depth: float, seed: int) -> float:
            return first_over_last_gradient(toy(name, int(depth), seed, start), seed)

        labels = {"deep-norm": "DeepNorm", "post-norm": "Post-LN"}
        return lines_over(labels, self.depths, self.seeds, progress, ratio)

    def judge_at(self, measured: Measured) -> Judgement:
        """The ratio at every depth."""
        line = measured["deep-norm"]
        means = [line.at(depth).mean for depth in sorted(line.points)]
        holds = all(LOW <= mean <= HIGH for mean in means)
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity=f"first over last gradient of DeepNorm at {max(self.depths)} layers",
            figure=line.last,
            sentence=f"DeepNorm's first over last gradient is {', '.join(f'{mean:.2f}' for mean in means)} at "
            f"{', '.join(map(str, sorted(self.depths)))} layers; Post-LN's is {said(measured['post-norm'].last)} at "
            f"{max(self.depths)}.",
        )
