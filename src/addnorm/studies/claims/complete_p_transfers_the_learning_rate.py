"""Dey 2025: with CompleteP the learning rate that is best for a shallow model is right for a deep one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.paired_training import EMBEDDING, short_run, train_all
from addnorm.studies.statistics import Estimate, estimate

NOTICEABLE = 0.02
LABELS = {"shallow": "shallow, both the same", "complete-p": "deep, CompleteP", "pre-norm": "deep, Pre-LN"}


@dataclass(frozen=True, kw_only=True)
class CompletePTransfersTheLearningRate(Claim):
    """What it costs to train a deep model at the learning rate that is best for a shallow one.

    `loss_deep(best rate of the shallow) - min_rate loss_deep(rate)`, for each seed.

    Args:
        shallow, deep: depths in layers; at the shallow one CompleteP is Pre-LN.
        rates: peak learning rates of AdamW.
        steps: of training.
    """

    seeds: int = 2
    shallow: int = 2
    deep: int = 16
    rates: tuple[float, ...] = (1e-3, 4e-3, 1.6e-2, 6.4e-2)
    steps: int = 100

    title: ClassVar[str] = "CompleteP's learning rate transfers over depth, Pre-LN's does not"
    statement: ClassVar[str] = (
        "With updates scaled by one over the depth, the learning rate tuned on a shallow model is best for deep ones "
        "too; without, the best rate shifts with the depth."
    )
    number: ClassVar[str] = "the same best rate from 2 to 128 layers; 12 to 34 % less compute than with alpha = 1/2"
    about: ClassVar[tuple[str, ...]] = ("complete-p", "pre-norm")
    reference: ClassVar[str] = "Dey et al. 2025, arXiv:2505.01618"
    experiment: ClassVar[str] = (
        "Decoders of 2 and 16 layers and width 32 on Shakespeare's bytes, 100 steps of 256 tokens, four learning rates "
        "from 0.001 to 0.064"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        f"the shallow model's rate costs CompleteP less than {NOTICEABLE} nats or less than half of what it costs "
        f"Pre-LN; where it costs Pre-LN less than {NOTICEABLE} too, nothing can be told apart"
    )
    axes: ClassVar[Axes] = Axes(x="peak learning rate", y="last validation loss, nats a token", log_x=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The last loss by learning rate, shallow and deep."""
        config, arms = short_run(self.steps, warm_up=0.1, evaluations=1), {}
        for rate in self.rates:
            base = replace(config, learning_rate=rate, num_layers=self.deep)
            arms[f"shallow {rate:g}"] = replace(base, num_layers=self.shallow)
            arms[f"pre-norm {rate:g}"] = base
            arms[f"complete-p {rate:g}"] = replace(base, scheme=f"complete-p(base_layers={self.shallow})")
        runs = train_all(arms, self.seeds, progress)
        return {
            name: Line(
                label=label, points={rate: tuple(run.final for run in runs[f"{name} {rate:g}"]) for rate in self.rates}
            )
            for name, label in LABELS.items()
        }

    def judge(self, measured: Measured) -> Judgement:
        """What the shallow model's best rate costs the deep ones."""
        complete = _cost(measured["shallow"], measured["complete-p"])
        pre = _cost(measured["shallow"], measured["pre-norm"])
        transfers = complete.mean < max(NOTICEABLE, pre.mean / 2)
        verdict = "reproduced" if transfers else "not reproduced"
        same = transfers and pre.mean < NOTICEABLE
        return Judgement(
            verdict="not testable at this size" if same else verdict,
            quantity="cost of the shallow model's rate in CompleteP, nats a token",
            figure=complete,
            sentence=f"The rate that is best at {self.shallow} layers costs {said(complete)} nats at {self.deep} "
            f"layers with CompleteP, {said(pre)} with Pre-LN; the best losses are {_best(measured['complete-p']):.3f} "
            f"and {_best(measured['pre-norm']):.3f}.",
        )


def _cost(shallow: Line, deep: Line) -> Estimate:
    costs = []
    for own, other in zip(shallow.by_seed(), deep.by_seed(), strict=True):
        best_rate = min(own, key=lambda pair: _ordered(pair[1]))[0]
        costs.append(dict(other)[best_rate] - min(_ordered(loss) for _, loss in other))
    return estimate(costs)


def _best(line: Line) -> float:
    return min(_ordered(line.at(rate).mean) for rate in line.points)


def _ordered(loss: float) -> float:
    """A loss that is not a number is worse than any."""
    return math.inf if math.isnan(loss) else loss
