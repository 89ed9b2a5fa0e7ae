"""Veit 2016: a trained residual net survives the deletion of a layer, a plain one does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from torch import nn

from addnorm import tasks
from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.paired_training import EMBEDDING, LEARNED, Trained, short_run, trained
from addnorm.studies.statistics import estimate
from addnorm.training.load import load_model

LABELS = {"pre-norm": "Pre-LN", "plain": "plain"}
LITTLE = 0.25


class _Deleted(nn.Module):
    """In place of a block: the state goes on as it came."""

    def forward(self, state: Any, *context: Any) -> Any:
        """The state."""
        return state


@dataclass(frozen=True, kw_only=True)
class SingleLayersCanBeDeleted(Claim):
    """By how much the validation loss rises when one sublayer of a trained model is left out.

    Relative to what the model had learned: unigram entropy minus validation loss.

    Args:
        num_layers: the depth.
        steps: of training.
        learning_rate: the peak of AdamW's.
    """

    seeds: int = 4
    num_layers: int = 3
    steps: int = 500
    learning_rate: float = 2e-3

    title: ClassVar[str] = "A trained residual net survives the deletion of any one layer, a plain one does not"
    statement: ClassVar[str] = (
        "Residual nets behave like ensembles of many shallow paths: leaving out one layer after training hardly hurts, "
        "where a net without skips is destroyed."
    )
    number: ClassVar[str] = "ResNet-110: no noticeable loss for almost any block; VGG: error at chance, for any layer"
    about: ClassVar[tuple[str, ...]] = ("pre-norm", "plain")
    reference: ClassVar[str] = "Veit et al. 2016, arXiv:1605.06431"
    experiment: ClassVar[str] = (
        "Decoders of 3 layers (6 sublayers; at 4 a plain net learns nothing) and width 32 with and without skips on "
        "Shakespeare's bytes, 500 steps of 256 tokens; then each sublayer alone is left out"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        f"the median deletion costs Pre-LN less than {LITTLE} of what it learned, and the plain net more than all; if "
        "the plain net learned nothing, it has nothing to lose"
    )
    axes: ClassVar[Axes] = Axes(x="sublayer left out", y="share of what was learned that is lost")

    def measure(self, progress: OnProgress) -> Measured:
        """The share that is lost, by sublayer."""
        config, lines = short_run(self.steps, num_layers=self.num_layers, evaluations=1, saves=1), {}
        config = replace(config, learning_rate=self.learning_rate, warm_up=0.5)
        for number, (name, label) in enumerate(LABELS.items()):
            columns: list[list[float]] = []
            for seed in range(self.seeds):
                columns.append(_losses_without_one(replace(config, scheme=name, seed=seed)))
                progress((number + (seed + 1) / self.seeds) / len(LABELS))
            by_sublayer = zip(*columns, strict=True)
            lines[name] = Line(label=label, points={i: tuple(values) for i, values in enumerate(by_sublayer)})
        return lines

    def judge(self, measured: Measured) -> Judgement:
        """The median over sublayers, seed by seed."""
        pre, plain = (
            estimate([median(loss for _, loss in path) for path in measured[name].by_seed()]) for name in LABELS
        )
        holds = pre.mean < LITTLE and plain.mean > 1
        verdict = "reproduced" if holds else "not reproduced"
        lost = (
            f"{said(plain)} of what the plain net has" if math.isfinite(plain.mean) else "the plain net learned nothing"
        )
        return Judgement(
            verdict=verdict if math.isfinite(plain.mean) else "not testable at this size",
            quantity="share of what Pre-LN learned that the median deletion loses",
            figure=pre,
            sentence=f"Leaving out one of {2 * self.num_layers} sublayers loses {said(pre)} of what Pre-LN has "
            f"learned, in the median; {lost}.",
        )


def _losses_without_one(config: Any) -> list[float]:
    """For each sublayer the share that is lost without it; not a number if nothing was learned."""
    losses: list[float] = []

    def look(folder: Path) -> None:
        model, _, stored = load_model(folder)
        task = tasks.prepare(stored)
        for i, block in enumerate(model.stack.blocks):
            model.stack.blocks[i] = _Deleted()
            losses.append(task.evaluate(model))
            model.stack.blocks[i] = block

    run: Trained = trained(config, look)
    learned = run.unigram_entropy - run.final
    return [(loss - run.final) / learned if learned > LEARNED else math.nan for loss in losses]
