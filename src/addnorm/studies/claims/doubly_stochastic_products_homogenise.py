"""Repeated doubly stochastic mixing makes all streams equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.mixing import balanced, drawn

GONE = 1e-2
RISE = 1e-6  # what 100 iterations leave of column errors
DIAGONALS = {"free": 0.0, "near-identity": 8.0}
LABELS = {"free": "logits N(0, 1)", "near-identity": "logits N(0, 1) + 8 on the diagonal"}


@dataclass(frozen=True, kw_only=True)
class DoublyStochasticProductsHomogenise(Claim):
    """`||H_N ... H_1 - J/n||_2`, J all ones: what of the differences between streams is left, at most.

    Args:
        depths: how many matrices are multiplied.
        streams: n.
        copies: products of each length; their mean is taken.
    """

    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    streams: int = 4
    copies: int = 64

    title: ClassVar[str] = "Products of doubly stochastic mixing matrices approach the uniform mean"
    statement: ClassVar[str] = (
        "Repeated doubly stochastic mixing can only bring the streams nearer to each other, monotonically; over enough "
        "sublayers nothing is left of what told them apart, unless the matrices stay near permutations."
    )
    number: ClassVar[str] = "convergence to J/n; no figure"
    about: ClassVar[tuple[str, ...]] = ("mhc", "mhc-lite", "krom-hc")
    reference: ClassVar[str] = "Xie et al. 2025, arXiv:2512.24880; Bouthat et al. 2026, arXiv:2606.24584"
    experiment: ClassVar[str] = (
        "64 products of up to 64 random matrices of 4 streams (Sinkhorn, 100 iterations, float64), from unbiased "
        "logits and from logits that favour the identity"
    )
    embedding: ClassVar[str] = "none: matrices alone"
    criterion: ClassVar[str] = (
        f"the distance from the uniform mean never rises, and for unbiased logits falls below {GONE}"
    )
    axes: ClassVar[Axes] = Axes(x="matrices multiplied", y="distance from the uniform mean", log_x=True, log_y=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The distance by number of matrices, from both kinds of logits."""
        lines = {}
        for number, (name, label) in enumerate(LABELS.items(), start=1):
            paths = [self._distances(DIAGONALS[name], seed) for seed in range(self.seeds)]
            lines[name] = Line(label=label, points={n: tuple(path[n] for path in paths) for n in self.depths})
            progress(number / len(LABELS))
        return lines

    def judge(self, measured: Measured) -> Judgement:
        """What is left over the largest number of matrices."""
        free, near = measured["free"], measured["near-identity"]
        falls = all(
            later <= earlier + RISE
            for line in (free, near)
            for path in line.by_seed()
            for (_, earlier), (_, later) in zip(path, path[1:], strict=False)
        )
        return Judgement(
            verdict="reproduced" if falls and free.last.mean < GONE else "not reproduced",
            quantity=f"distance left after {max(self.depths)} matrices from unbiased logits",
            figure=free.last,
            sentence=f"After {max(self.depths)} matrices {said(free.last, 2)} of the differences between streams "
            f"is left at most with unbiased logits, {said(near.last)} with logits that favour the identity.",
        )

    def _distances(self, diagonal: float, seed: int) -> dict[int, float]:
        identity, uniform = torch.eye(self.streams, dtype=torch.float64), 1 / self.streams
        product, distances = identity, {}
        for place in range(1, max(self.depths) + 1):
            logits = drawn(seed, place, self.streams, self.copies) + diagonal * identity
            product = balanced(logits, iterations=100) @ product
            if place in self.depths:
                distances[place] = float(torch.linalg.matrix_norm(product - uniform, 2).mean())
        return distances
