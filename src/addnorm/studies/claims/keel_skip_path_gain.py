"""How much of the embedding is left at the exit along the skips alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from addnorm import schemes
from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.independent_updates import pass_noise
from addnorm.studies.experiments.lines import lines_over

KEPT = 0.9
LABELS = {"post-norm": "Post-LN", "deep-norm": "DeepNorm, α only", "keel": "KEEL"}


@dataclass(frozen=True, kw_only=True)
class KeelSkipPathGain(Claim):
    """The part of the embedding in the hidden vector, `<h, e> / <e, e>`, when every update is fresh noise of RMS 1.

    Args:
        depths: in sublayers.
        d_model: the width; random directions overlap by its inverse square root.
        tokens: how many vectors are averaged.
    """

    depths: tuple[int, ...] = (8, 24, 96, 384)
    d_model: int = 512
    tokens: int = 64

    title: ClassVar[str] = "KEEL's skip path keeps the embedding at any depth, Post-LN's loses it"
    statement: ClassVar[str] = (
        "The norms of Post-LN shrink the skip path exponentially in the depth; a skip weighted by the number of "
        "sublayers stays open."
    )
    number: ClassVar[str] = "gain (1 + 1/a^2)^(-N/2): about 1 for a = N, 2^(-N/2) for Post-LN"
    about: ClassVar[tuple[str, ...]] = ("keel", "deep-norm", "post-norm")
    reference: ClassVar[str] = "Chen and Wei 2026, arXiv:2601.19895"
    experiment: ClassVar[str] = (
        "The catalogue's own connections, 8 to 384 of them, width 512, each update independent noise of RMS 1"
    )
    embedding: ClassVar[str] = "noise of RMS 1"
    criterion: ClassVar[str] = (
        f"at the largest depth KEEL keeps more than {KEPT} of the embedding, and Post-LN no more than noise overlaps "
        "with it by chance at 24 sublayers or more (three times the inverse root of width times tokens)"
    )
    axes: ClassVar[Axes] = Axes(x="sublayers", y="part of the embedding at the exit", log_x=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The part that is left, by depth."""
        return lines_over(LABELS, self.depths, self.seeds, progress, self._gain)

    def judge(self, measured: Measured) -> Judgement:
        """The parts at the largest depth."""
        keel, post = measured["keel"], measured["post-norm"]
        deepest = max(keel.points)
        predicted = (1 + deepest**-2) ** (-deepest / 2)
        lost = max(abs(post.at(depth).mean) for depth in post.points if depth >= min(24, deepest))
        floor = 3 / math.sqrt(self.d_model * self.tokens)
        holds = keel.last.mean > KEPT and lost < floor
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity=f"part of the embedding that KEEL keeps over {deepest:g} sublayers",
            figure=keel.last,
            sentence=f"Over {deepest:g} sublayers KEEL keeps {said(keel.last, 4)} of the embedding (predicted "
            f"{predicted:.4f}), DeepNorm's α alone {said(measured['deep-norm'].last)}, Post-LN {said(post.last)}; "
            f"noise alone gives up to {floor:.1g}.",
        )

    def _gain(self, name: str, depth: float, seed: int) -> float:
        passage = pass_noise(schemes.get(name)(), int(depth), (self.tokens, self.d_model), seed)
        return float((passage.hidden * passage.embedding).sum() / passage.embedding.square().sum())
