"""BatchNorm falls behind LayerNorm as the batch shrinks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.paired_training import EMBEDDING, short_run, train_all
from addnorm.studies.statistics import Estimate, paired_difference

LABELS = {"layer": "LayerNorm", "batch": "BatchNorm"}


@dataclass(frozen=True, kw_only=True)
class BatchNormNeedsLargeBatches(Claim):
    """`loss(BatchNorm) - loss(LayerNorm)` in Pre-LN decoders after equally many steps, by batch size.

    Args:
        batches: sequences in a step.
        num_layers: the depth.
        steps: of training.
        context: tokens in a sequence; BatchNorm's statistics are over batch times context tokens.
    """

    seeds: int = 3
    batches: tuple[int, ...] = (1, 4, 16)
    num_layers: int = 4
    steps: int = 150
    context: int = 16

    title: ClassVar[str] = "BatchNorm falls behind LayerNorm as the batch shrinks"
    statement: ClassVar[str] = (
        "Statistics over the batch become poor estimates in small batches, so BatchNorm's error rises as the batch "
        "shrinks; norms within one example do not depend on it."
    )
    number: ClassVar[str] = "10.6 % more error with 2 images a worker than a norm within the example, ImageNet"
    about: ClassVar[tuple[str, ...]] = ("pre-norm",)
    reference: ClassVar[str] = "Wu and He 2018, arXiv:1803.08494; Ba et al. 2016, arXiv:1607.06450"
    experiment: ClassVar[str] = (
        "Pre-LN decoders of 4 layers and width 32 on Shakespeare's bytes with either norm, 150 steps of 1, 4 and 16 "
        "sequences of 16 tokens; validation uses running statistics"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        "BatchNorm's lag at the smallest batch is positive and exceeds that at the largest, both with their intervals"
    )
    axes: ClassVar[Axes] = Axes(x="sequences in a batch", y="last validation loss, nats a token", log_x=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The last loss by batch size under both norms."""
        arms = {}
        for size in self.batches:
            config = short_run(
                self.steps, num_layers=self.num_layers, context=self.context, batch_size=size, evaluations=1
            )
            for norm in LABELS:
                arms[f"{norm} {size}"] = replace(config, scheme=f"pre-norm(norm={norm})", learning_rate=4e-3)
        runs = train_all(arms, self.seeds, progress)
        return {
            norm: Line(
                label=label, points={size: tuple(run.final for run in runs[f"{norm} {size}"]) for size in self.batches}
            )
            for norm, label in LABELS.items()
        }

    def judge(self, measured: Measured) -> Judgement:
        """The lag at the smallest batch, and how much of it a larger batch takes away."""
        small, large = min(self.batches), max(self.batches)
        lags = {size: _lags(measured, size) for size in (small, large)}
        lag, shrinks = _mean(lags[small]), paired_difference(lags[small], lags[large])
        assert shrinks is not None
        holds = all(found.mean - (found.half_width or 0.0) > 0 for found in (lag, shrinks))
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity=f"BatchNorm's lag behind LayerNorm at batches of {small}, nats a token",
            figure=lag,
            sentence=f"BatchNorm's loss lies {said(lag)} nats above LayerNorm's with {small} sequences a step and "
            f"{said(_mean(lags[large]))} with {large}.",
        )


def _lags(measured: Measured, size: int) -> dict[int, float]:
    """By seed."""
    pairs = zip(measured["batch"].points[size], measured["layer"].points[size], strict=True)
    return {seed: batch - layer for seed, (batch, layer) in enumerate(pairs)}


def _mean(lags: dict[int, float]) -> Estimate:
    found = paired_difference(lags, dict.fromkeys(lags, 0.0))
    assert found is not None
    return found
