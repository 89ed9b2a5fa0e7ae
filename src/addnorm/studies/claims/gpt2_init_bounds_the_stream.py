"""GPT-2's initial weights keep the stream's size at any depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, stream_rms, toy
from addnorm.studies.experiments.trend import ratio_of_ends

BOUNDED = 1.25
GROWS = 2.0


@dataclass(frozen=True, kw_only=True)
class Gpt2InitBoundsTheStream(FreshClaim):
    """`sqrt(mean(x^2))` of the stream at the exit before training, by depth.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "Output weights scaled by 1/sqrt(2L) keep the stream's size at any depth"
    statement: ClassVar[str] = (
        "Scaling the weights of the residual layers at initialisation by one over the root of their number accounts "
        "for the accumulation on the stream."
    )
    number: ClassVar[str] = "a factor of 1/sqrt(N), N the number of residual layers"
    about: ClassVar[tuple[str, ...]] = ("gpt2-init", "pre-norm")
    reference: ClassVar[str] = "Child et al. 2019, arXiv:1904.10509; Radford et al. 2019 (the GPT-2 report)"
    experiment: ClassVar[str] = "Decoders of width 64 with 4, 16 and 64 layers before training, random tokens"
    criterion: ClassVar[str] = (
        f"from the shallowest to the deepest the RMS at the exit grows less than {BOUNDED} times, "
        f"and in Pre-LN without the factor more than {GROWS} times"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="RMS of the stream at the exit", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The RMS at the exit with and without the factor."""

        def size(name: str, depth: float, seed: int) -> float:
            return stream_rms(toy(name, int(depth), seed, start), seed)[-1]

        labels = {"gpt2-init": "GPT-2 init", "pre-norm": "Pre-LN"}
        return lines_over(labels, self.depths, self.seeds, progress, size)

    def judge_at(self, measured: Measured) -> Judgement:
        """By how much each grows."""
        scaled, plain = ratio_of_ends(measured["gpt2-init"]), ratio_of_ends(measured["pre-norm"])
        low, high = min(self.depths), max(self.depths)
        return Judgement(
            verdict="reproduced" if scaled.mean < BOUNDED and plain.mean > GROWS else "not reproduced",
            quantity=f"growth of the RMS from {low} to {high} layers with GPT-2's init",
            figure=scaled,
            sentence=f"From {low} to {high} layers the RMS grows {said(scaled)} times with GPT-2's init and "
            f"{said(plain)} times without.",
        )
