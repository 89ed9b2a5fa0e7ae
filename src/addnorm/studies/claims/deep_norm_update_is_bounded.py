"""Wang 2022: one step changes DeepNorm's output by the same amount at any depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from addnorm.probes.signal import rms
from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, loss_of, random_tokens, toy
from addnorm.studies.experiments.trend import power

BOUNDED = 0.15
APART = 0.25
BIASES = "biases"


@dataclass(frozen=True, kw_only=True)
class DeepNormUpdateIsBounded(FreshClaim):
    """`rms(f(x; W - rate dL/dW) - f(x; W))` of the logits, W the matrices of all sublayers, before training.

    Biases are stepped alone: the paper's derivation has none, and theirs grow as the root of the depth, since 2L of
    them each weigh `1 / alpha^2 = 1 / sqrt(2L)` without a factor beta.

    Args:
        depths: in layers.
        rate: of the one step of gradient descent.
    """

    depths: tuple[int, ...] = (4, 16, 64)
    rate: float = 0.01

    title: ClassVar[str] = "A step changes DeepNorm's output by the same amount at any depth"
    statement: ClassVar[str] = (
        "What destabilises Post-LN is that the first updates change the model by an amount that grows with depth; "
        "DeepNorm bounds the change by a constant."
    )
    number: ClassVar[str] = "expected model update O(1) in the depth, up to 1000 layers"
    about: ClassVar[tuple[str, ...]] = ("deep-norm", "post-norm")
    reference: ClassVar[str] = "Wang et al. 2022, arXiv:2203.00555"
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 4, 16 and 64 layers; one step of gradient descent at rate 0.01 on the "
        "matrices of all sublayers, random tokens and labels; RMS change of the logits on the same tokens; beside it a "
        "step on DeepNorm's biases alone"
    )
    criterion: ClassVar[str] = (
        f"the exponent of the depth is at most {BOUNDED} in DeepNorm, and Post-LN's is larger by at least {APART}"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="RMS change of the logits in one step", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The change by depth under both schemes."""
        labels = {"deep-norm": "DeepNorm", "post-norm": "Post-LN", BIASES: "DeepNorm, biases alone"}
        return lines_over(labels, self.depths, self.seeds, progress, partial(self._change, start))

    def judge_at(self, measured: Measured) -> Judgement:
        """Both exponents."""
        deep, post = power(measured["deep-norm"]), power(measured["post-norm"])
        holds = deep.mean <= BOUNDED and post.mean >= deep.mean + APART
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity="exponent of the depth in DeepNorm's change",
            figure=deep,
            sentence=f"The change of the logits goes as L to the {said(deep)} in DeepNorm and to the {said(post)} in "
            f"Post-LN; at {max(self.depths)} layers it is {said(measured['deep-norm'].last)} and "
            f"{said(measured['post-norm'].last)}. A step on DeepNorm's biases, which the derivation leaves out, "
            f"goes as L to the {said(power(measured[BIASES]))}.",
        )

    def _change(self, start: Start, name: str, depth: float, seed: int) -> float:
        model = toy("deep-norm" if name == BIASES else name, int(depth), seed, start)
        inputs, labels = random_tokens(seed)
        loss_of(model, inputs, labels).backward()
        with torch.no_grad():
            before = model(inputs)
            for block in model.stack.blocks:
                for weight in block.get_submodule("sublayer").parameters():
                    if weight.grad is not None and (weight.dim() == 1) == (name == BIASES):
                        weight.sub_(weight.grad, alpha=self.rate)
            return float(rms(model(inputs) - before))
