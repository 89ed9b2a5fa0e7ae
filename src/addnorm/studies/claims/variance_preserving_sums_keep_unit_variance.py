"""Sums whose squared weights add up to one keep the stream's variance at one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm import schemes
from addnorm.probes.signal import rms
from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.independent_updates import pass_noise
from addnorm.studies.experiments.lines import lines_over, values_of

WITHIN = 0.05
LABELS = {"deep-scale-lm": "DeepScaleLM", "beam": "Beam", "muse-spark": "Muse Spark", "pre-norm": "Pre-LN"}


@dataclass(frozen=True, kw_only=True)
class VariancePreservingSumsKeepUnitVariance(Claim):
    """`mean(x^2)` of the stream after N sublayers whose outputs are independent noise of RMS 1.

    Args:
        depths: in sublayers.
        d_model: the width.
        tokens: how many vectors are averaged.
    """

    depths: tuple[int, ...] = (8, 40, 200)
    d_model: int = 256
    tokens: int = 64

    title: ClassVar[str] = "Sums with squares that add up to one keep unit variance over 200 sublayers"
    statement: ClassVar[str] = (
        "With weights whose squares add up to one on skip and update, moments stay at one through hundreds of layers."
    )
    number: ClassVar[str] = "unit variance over 192 layers and more"
    about: ClassVar[tuple[str, ...]] = ("deep-scale-lm", "beam", "muse-spark", "pre-norm")
    reference: ClassVar[str] = "Kedia et al. 2024, arXiv:2403.09635"
    experiment: ClassVar[str] = (
        "The catalogue's connections of DeepScaleLM, Beam and Muse Spark, up to 200 of them, width 256, updates of "
        "independent noise; real sublayers' updates are correlated with the stream, which this leaves out"
    )
    embedding: ClassVar[str] = "noise of RMS 1"
    criterion: ClassVar[str] = f"all three stay within {WITHIN} of 1 at every depth"
    axes: ClassVar[Axes] = Axes(x="sublayers", y="variance of the stream", log_x=True, log_y=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The variance by depth; Pre-LN beside."""

        def variance(name: str, depth: float, seed: int) -> float:
            return (
                float(rms(pass_noise(schemes.get(name)(), int(depth), (self.tokens, self.d_model), seed).stream)) ** 2
            )

        return lines_over(LABELS, self.depths, self.seeds, progress, variance)

    def judge(self, measured: Measured) -> Judgement:
        """The scheme that strays farthest."""
        kept = {name: line for name, line in measured.items() if name != "pre-norm"}
        strayed = {name: max(abs(value - 1) for value in values_of(line)) for name, line in kept.items()}
        last = max(strayed, key=lambda name: strayed[name])
        return Judgement(
            verdict="reproduced" if strayed[last] <= WITHIN else "not reproduced",
            quantity=f"variance of {LABELS[last]} after {max(self.depths)} sublayers",
            figure=kept[last].last,
            sentence=f"The variance strays from one by {strayed[last]:.3f} at most ({LABELS[last]}); Pre-LN's is "
            f"{said(measured['pre-norm'].last)} after {max(self.depths)} sublayers.",
        )
