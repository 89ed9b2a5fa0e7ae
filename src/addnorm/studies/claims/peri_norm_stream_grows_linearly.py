"""Kim 2025: Peri-LN's stream gains one unit of variance a sublayer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, stream_rms, toy
from addnorm.studies.experiments.trend import power

WITHIN = 0.15


@dataclass(frozen=True, kw_only=True)
class PeriNormStreamGrowsLinearly(FreshClaim):
    """`mean(x^2)` of the stream at the exit before training, by depth; its exponent of the depth.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "Peri-LN's stream grows linearly in variance"
    statement: ClassVar[str] = (
        "With a norm before and after each sublayer the variance of the stream grows linearly with the depth, where "
        "Pre-LN's can grow exponentially during training."
    )
    number: ClassVar[str] = "Var(x_l) = O(l): an exponent of 1"
    about: ClassVar[tuple[str, ...]] = ("peri-norm", "pre-norm")
    reference: ClassVar[str] = "Kim et al. 2025, arXiv:2502.02732"
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 4, 16 and 64 layers before training, random tokens; Pre-LN is shown beside"
    )
    criterion: ClassVar[str] = f"the exponent of the depth in Peri-LN's variance lies within {WITHIN} of 1"
    axes: ClassVar[Axes] = Axes(x="layers", y="variance of the stream at the exit", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The variance at the exit under both schemes."""

        def variance(name: str, depth: float, seed: int) -> float:
            return stream_rms(toy(name, int(depth), seed, start), seed)[-1] ** 2

        return lines_over({"peri-norm": "Peri-LN", "pre-norm": "Pre-LN"}, self.depths, self.seeds, progress, variance)

    def judge_at(self, measured: Measured) -> Judgement:
        """The exponent of the depth."""
        peri = power(measured["peri-norm"])
        deepest = max(measured["peri-norm"].points)
        return Judgement(
            verdict="reproduced" if abs(peri.mean - 1) <= WITHIN else "not reproduced",
            quantity="exponent of the depth in Peri-LN's variance",
            figure=peri,
            sentence=f"Peri-LN's variance goes as L to the {said(peri)}, {said(measured['peri-norm'].last)} after "
            f"{2 * deepest:g} sublayers; Pre-LN's goes as L to the {said(power(measured['pre-norm']))}.",
        )
