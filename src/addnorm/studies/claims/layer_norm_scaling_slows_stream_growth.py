"""Sun 2025: dividing each norm by the root of its layer's number slows the growth of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, stream_rms, toy
from addnorm.studies.experiments.trend import power

SLOWER = 0.5


@dataclass(frozen=True, kw_only=True)
class LayerNormScalingSlowsStreamGrowth(FreshClaim):
    """`mean(x^2)` of the stream at the exit before training, by depth: LNS beside Pre-LN.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "LayerNorm Scaling slows the growth of the stream's variance"
    statement: ClassVar[str] = (
        "In Pre-LN the variance of the layers' outputs grows with the depth, at worst exponentially, so that deep "
        "layers hardly change anything; dividing each norm by the root of its layer's number keeps the growth slow."
    )
    number: ClassVar[str] = "from exponential in the depth to polynomial"
    about: ClassVar[tuple[str, ...]] = ("layer-norm-scaling", "pre-norm")
    reference: ClassVar[str] = "Sun et al. 2025, arXiv:2502.05795"
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 4, 16 and 64 layers before training, random tokens; growth that only training "
        "brings is not seen"
    )
    criterion: ClassVar[str] = f"LNS's exponent of the depth is at most {SLOWER} of Pre-LN's, and that is positive"
    axes: ClassVar[Axes] = Axes(x="layers", y="variance of the stream at the exit", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The variance at the exit under both schemes."""

        def variance(name: str, depth: float, seed: int) -> float:
            return stream_rms(toy(name, int(depth), seed, start), seed)[-1] ** 2

        labels = {"layer-norm-scaling": "LNS", "pre-norm": "Pre-LN"}
        return lines_over(labels, self.depths, self.seeds, progress, variance)

    def judge_at(self, measured: Measured) -> Judgement:
        """Both exponents of the depth."""
        scaled, pre = power(measured["layer-norm-scaling"]), power(measured["pre-norm"])
        holds = pre.mean > 0 and scaled.mean <= SLOWER * pre.mean
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity="exponent of the depth in LNS's variance",
            figure=scaled,
            sentence=f"Before training the variance at the exit goes as L to the {said(scaled)} with LNS and to the "
            f"{said(pre)} in Pre-LN: a power there too, not an exponential.",
        )
