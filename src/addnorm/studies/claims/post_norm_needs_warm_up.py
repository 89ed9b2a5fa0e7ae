"""Xiong 2020: without warm-up Post-LN ends higher, Pre-LN does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.paired import better_by, last_difference
from addnorm.studies.experiments.paired_training import EMBEDDING, curves, short_run, train_all

LABELS = {
    "post-warm": "Post-LN, warm-up",
    "post-cold": "Post-LN, none",
    "pre-warm": "Pre-LN, warm-up",
    "pre-cold": "Pre-LN, none",
}
EFFECT = 0.05


@dataclass(frozen=True, kw_only=True)
class PostNormNeedsWarmUp(Claim):
    """What warm-up takes off the last validation loss, in Post-LN and in Pre-LN.

    Args:
        num_layers: the depth.
        steps: of training.
        learning_rate: the peak of AdamW's.
        warm_up: share of the run with a rising learning rate.
    """

    seeds: int = 4
    num_layers: int = 6
    steps: int = 200
    learning_rate: float = 8e-3
    warm_up: float = 0.25

    title: ClassVar[str] = "Post-LN needs warm-up, Pre-LN does not"
    statement: ClassVar[str] = (
        "With a large learning rate from the first step on Post-LN trains badly; with warm-up it trains; Pre-LN does "
        "as well without."
    )
    number: ClassVar[str] = "in translation (IWSLT14, 6 + 6 layers), as a figure: Post-LN is far worse without"
    about: ClassVar[tuple[str, ...]] = ("post-norm", "pre-norm")
    reference: ClassVar[str] = "Xiong et al. 2020, arXiv:2002.04745"
    experiment: ClassVar[str] = (
        "Decoders of 6 layers and width 32 on Shakespeare's bytes, 200 steps of 256 tokens, AdamW at 0.008, with a "
        "quarter of the steps as warm-up and without"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        f"warm-up lowers Post-LN's loss, with an interval below zero, and by more than Pre-LN's; an interval that "
        f"holds both zero and {EFFECT} nats cannot tell"
    )
    axes: ClassVar[Axes] = Axes(x="step", y="validation loss, nats a token", shows="end")

    def measure(self, progress: OnProgress) -> Measured:
        """The learning curves."""
        config = short_run(self.steps, num_layers=self.num_layers, learning_rate=self.learning_rate)
        arms = {
            name: replace(
                config,
                scheme="post-norm" if name.startswith("post") else "pre-norm",
                warm_up=self.warm_up if name.endswith("warm") else 0.0,
            )
            for name in LABELS
        }
        return curves(train_all(arms, self.seeds, progress), LABELS)

    def judge(self, measured: Measured) -> Judgement:
        """What warm-up gains in both."""
        post = last_difference(measured["post-warm"], measured["post-cold"])
        pre = last_difference(measured["pre-warm"], measured["pre-cold"])
        verdict = better_by(post, EFFECT)
        return Judgement(
            verdict="not reproduced" if verdict == "reproduced" and pre.mean <= post.mean else verdict,
            quantity="what warm-up changes in Post-LN's last loss, nats a token",
            figure=post,
            sentence=f"Warm-up changes the loss by {said(post)} in Post-LN (to {said(measured['post-warm'].last)}) and "
            f"by {said(pre)} in Pre-LN (to {said(measured['pre-warm'].last)}).",
        )
