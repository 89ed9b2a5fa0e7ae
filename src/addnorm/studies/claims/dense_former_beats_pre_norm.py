"""Pagliardini 2024: DenseFormer reaches a lower loss than Pre-LN at equal tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.paired import better_by, last_difference
from addnorm.studies.experiments.paired_training import EMBEDDING, curves, short_run, train_all

LABELS = {"dense-former": "DenseFormer", "pre-norm": "Pre-LN"}
EFFECT = 0.02


@dataclass(frozen=True, kw_only=True)
class DenseFormerBeatsPreNorm(Claim):
    """The difference of the last validation losses at equal tokens, paired by seed.

    Args:
        num_layers: the depth.
        steps: of training.
        learning_rate: the peak of AdamW's.
    """

    num_layers: int = 8
    steps: int = 300
    learning_rate: float = 4e-3

    title: ClassVar[str] = "DenseFormer reaches a lower loss than Pre-LN at equal tokens"
    statement: ClassVar[str] = (
        "A learned weighted mean of all earlier layers' outputs after each layer is more data efficient: it reaches "
        "the perplexity of a much deeper Transformer."
    )
    number: ClassVar[str] = "the perplexity of much deeper models; the abstract has no figure"
    about: ClassVar[tuple[str, ...]] = ("dense-former", "pre-norm")
    reference: ClassVar[str] = "Pagliardini et al. 2024, arXiv:2402.02622"
    experiment: ClassVar[str] = (
        "Decoders of 8 layers and width 32 on Shakespeare's bytes, 300 steps of 256 tokens, AdamW at 0.004"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        f"the paired difference lies below zero with its interval; one that holds both zero and -{EFFECT} cannot tell"
    )
    axes: ClassVar[Axes] = Axes(x="step", y="validation loss, nats a token", shows="end")

    def measure(self, progress: OnProgress) -> Measured:
        """The learning curves."""
        config = short_run(self.steps, num_layers=self.num_layers, learning_rate=self.learning_rate, warm_up=0.1)
        return curves(train_all({name: replace(config, scheme=name) for name in LABELS}, self.seeds, progress), LABELS)

    def judge(self, measured: Measured) -> Judgement:
        """The difference at the end."""
        difference = last_difference(measured["dense-former"], measured["pre-norm"])
        return Judgement(
            verdict=better_by(difference, EFFECT),
            quantity="DenseFormer's last loss minus Pre-LN's, nats a token",
            figure=difference,
            sentence=f"After {self.steps} steps the losses are {said(measured['dense-former'].last)} and "
            f"{said(measured['pre-norm'].last)} (Pre-LN), a paired difference of {said(difference)}.",
        )
