"""Xie 2025: products of free mixing matrices explode, those of doubly stochastic ones do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.mixing import balanced, drawn, gain

BOUNDED = 2.0
EXPLODES = 100.0
LABELS = {"free": "HC: I + noise", "balanced": "mHC: Sinkhorn, 20 iterations"}


@dataclass(frozen=True, kw_only=True)
class MHCBoundsTheCompositeGain(Claim):
    """The largest absolute row or column sum of a product of N random mixing matrices, over many products.

    Args:
        depths: how many matrices are multiplied.
        streams: n.
        copies: products of each length.
        noise: standard deviation of what HC's matrices have learned beside the identity.
        logit_spread: standard deviation of mHC's logits.
    """

    depths: tuple[int, ...] = (1, 5, 15, 30, 60)
    streams: int = 4
    copies: int = 64
    noise: float = 0.2
    logit_spread: float = 3.0

    title: ClassVar[str] = "mHC bounds the gain of the composite mixing, HC's explodes"
    statement: ClassVar[str] = (
        "The product of HC's unconstrained mixing matrices amplifies signals by orders of magnitude over the depth; "
        "doubly stochastic matrices are closed under multiplication and hold the gain near one."
    )
    number: ClassVar[str] = "composite gain about 3000 in HC, at most about 1.6 in mHC (27B parameters, 60 sublayers)"
    about: ClassVar[tuple[str, ...]] = ("mhc", "hyper-connections")
    reference: ClassVar[str] = "Xie et al. 2025, arXiv:2512.24880"
    experiment: ClassVar[str] = (
        "Random matrices in place of learned ones: 64 products of up to 60 matrices of 4 streams; HC's are the "
        "identity plus noise of 0.2, mHC's come from logits of spread 3"
    )
    embedding: ClassVar[str] = "none: matrices alone"
    criterion: ClassVar[str] = (
        f"over the largest number of matrices mHC's largest gain is at most {BOUNDED}, HC's above {EXPLODES}"
    )
    axes: ClassVar[Axes] = Axes(x="matrices multiplied", y="largest composite gain", log_x=True, log_y=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The largest gain by number of matrices."""
        lines = {}
        for number, (name, label) in enumerate(LABELS.items(), start=1):
            paths = [self._gains(name, seed) for seed in range(self.seeds)]
            lines[name] = Line(label=label, points={n: tuple(path[n] for path in paths) for n in self.depths})
            progress(number / len(LABELS))
        return lines

    def judge(self, measured: Measured) -> Judgement:
        """Both gains over the largest number of matrices."""
        free, bound = measured["free"].last, measured["balanced"].last
        holds = bound.mean <= BOUNDED and free.mean > EXPLODES
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity=f"largest gain of {max(self.depths)} of mHC's matrices",
            figure=bound,
            sentence=f"Over {max(self.depths)} matrices the largest gain is {said(bound)} with Sinkhorn's and "
            f"{said(free)} with free ones.",
        )

    def _gains(self, name: str, seed: int) -> dict[int, float]:
        product = torch.eye(self.streams, dtype=torch.float64)
        gains = {}
        for place in range(1, max(self.depths) + 1):
            noise = drawn(seed, place, self.streams, self.copies)
            free = torch.eye(self.streams, dtype=torch.float64) + self.noise * noise
            product = (free if name == "free" else balanced(self.logit_spread * noise)) @ product
            if place in self.depths:
                gains[place] = gain(product)
        return gains
