"""Twenty Sinkhorn iterations leave columns that do not sum to one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor

from addnorm.kernels.sinkhorn import sinkhorn
from addnorm.layers.initialise import generator_for
from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.lines import lines_over, values_of

EXACT = 1e-5  # some ten float32 roundings of sums of 24 terms below 1
APPARENT = 1e-2


@dataclass(frozen=True, kw_only=True)
class SinkhornIsApproximate(Claim):
    """`max |sum_i H_ij - 1|` of random logits `N(0, s^2)` after 20 iterations, beside a mean of permutations.

    Args:
        streams: rows and columns of each matrix.
        matrices: how many are drawn for a maximum.
        spreads: standard deviations of the logits.
        iterations: how often columns and rows are normalised.
    """

    streams: int = 4
    matrices: int = 4096
    spreads: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
    iterations: int = 20

    title: ClassVar[str] = "Twenty Sinkhorn iterations are not doubly stochastic; a mean of permutations is"
    statement: ClassVar[str] = (
        "The finite Sinkhorn iterations of mHC guarantee no doubly stochastic mixing; a weighted mean of permutation "
        "matrices is doubly stochastic by construction."
    )
    number: ClassVar[str] = "20 iterations in mHC; exact without any in mHC-lite"
    about: ClassVar[tuple[str, ...]] = ("mhc", "mhc-lite")
    reference: ClassVar[str] = "Yang and Gao 2026, arXiv:2601.05732; Xie et al. 2025, arXiv:2512.24880"
    experiment: ClassVar[str] = (
        "4096 matrices of 4 x 4 logits at each of six spreads: the largest distance of a column's sum from 1"
    )
    embedding: ClassVar[str] = "none: matrices alone"
    criterion: ClassVar[str] = (
        f"at the largest spread Sinkhorn's error exceeds {APPARENT}, and the mean of permutations stays below {EXACT}"
    )
    axes: ClassVar[Axes] = Axes(x="standard deviation of the logits", y="largest column error", log_x=True, log_y=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The largest column error by spread, of both parametrisations."""

        def error(name: str, spread: float, seed: int) -> float:
            return _error(self._iterated(spread, seed) if name == "sinkhorn" else self._averaged(spread, seed))

        labels = {"sinkhorn": f"Sinkhorn, {self.iterations} iterations", "permutations": "mean of permutations"}
        return lines_over(labels, self.spreads, self.seeds, progress, error)

    def judge(self, measured: Measured) -> Judgement:
        """The errors at the largest spread."""
        iterated, averaged = measured["sinkhorn"], measured["permutations"]
        worst = max(values_of(averaged))
        holds = iterated.last.mean > APPARENT and worst < EXACT
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity=f"largest column error of Sinkhorn at spread {max(iterated.points):g}",
            figure=iterated.last,
            sentence=f"After {self.iterations} iterations the worst column is off by {said(iterated.first)} at spread "
            f"{min(iterated.points):g} and by {said(iterated.last)} at spread {max(iterated.points):g}; a mean of "
            f"permutations by {worst:.1e} at most.",
        )

    def _iterated(self, spread: float, seed: int) -> Tensor:
        logits = spread * self._drawn(seed, self.streams**2)
        return sinkhorn(logits.unflatten(0, (self.streams, self.streams)), self.iterations)

    def _averaged(self, spread: float, seed: int) -> Tensor:
        order = torch.tensor(list(permutations(range(self.streams))))
        each = torch.eye(self.streams)[order].flatten(1)
        weights = (spread * self._drawn(seed, len(order))).softmax(0)
        return (each.T @ weights).unflatten(0, (self.streams, self.streams))

    def _drawn(self, seed: int, rows: int) -> Tensor:
        return torch.randn(rows, self.matrices, generator=generator_for(seed, "claims/mixing"))


def _error(matrices: Tensor) -> float:
    """Rows are the first dimension: summing over it gives the columns' sums."""
    return float((matrices.sum(0) - 1).abs().max())
