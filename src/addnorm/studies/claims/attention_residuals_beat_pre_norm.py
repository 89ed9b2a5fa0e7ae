"""Kimi 2026: Attention Residuals reach a lower loss than Pre-LN at equal tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.paired import better_by, last_difference
from addnorm.studies.experiments.paired_training import EMBEDDING, curves, short_run, train_all

LABELS = {"attention-residuals": "Attention Residuals", "pre-norm": "Pre-LN"}
EFFECT = 0.029


@dataclass(frozen=True, kw_only=True)
class AttentionResidualsBeatPreNorm(Claim):
    """The difference of the last validation losses at equal tokens, paired by seed.

    Args:
        num_layers: the depth.
        steps: of training.
        learning_rate: the peak of AdamW's.
    """

    num_layers: int = 8
    steps: int = 300
    learning_rate: float = 4e-3

    title: ClassVar[str] = "Attention Residuals reach a lower loss than Pre-LN at equal tokens"
    statement: ClassVar[str] = (
        "A sublayer that reads a learned, input-dependent mean of all earlier outputs learns more from the same tokens."
    )
    number: ClassVar[str] = "1.766 to 1.737 nats at 16 layers; as 1.25 times the compute"
    about: ClassVar[tuple[str, ...]] = ("attention-residuals", "pre-norm")
    reference: ClassVar[str] = "Kimi Team 2026, arXiv:2603.15031"
    experiment: ClassVar[str] = (
        "Decoders of 8 layers and width 32 on Shakespeare's bytes, 300 steps of 256 tokens, AdamW at 0.004"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        f"the paired difference lies below zero with its interval; one that holds both zero and the paper's -{EFFECT} "
        "cannot tell"
    )
    axes: ClassVar[Axes] = Axes(x="step", y="validation loss, nats a token", shows="end")

    def measure(self, progress: OnProgress) -> Measured:
        """The learning curves."""
        config = short_run(self.steps, num_layers=self.num_layers, learning_rate=self.learning_rate, warm_up=0.1)
        return curves(train_all({name: replace(config, scheme=name) for name in LABELS}, self.seeds, progress), LABELS)

    def judge(self, measured: Measured) -> Judgement:
        """The difference at the end."""
        difference = last_difference(measured["attention-residuals"], measured["pre-norm"])
        return Judgement(
            verdict=better_by(difference, EFFECT),
            quantity="Attention Residuals' last loss minus Pre-LN's, nats a token",
            figure=difference,
            sentence=f"After {self.steps} steps the losses are {said(measured['attention-residuals'].last)} and "
            f"{said(measured['pre-norm'].last)} (Pre-LN), a paired difference of {said(difference)}.",
        )
