"""Deep Post-LN does not train without care; Pre-LN, DeepNorm, KEEL and ReZero do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.studies.claim import Axes, Claim, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.paired_training import EMBEDDING, LEARNED, curves, entropy_line, short_run, train_all

LABELS = {
    "post-norm": "Post-LN",
    "pre-norm": "Pre-LN",
    "deep-norm": "DeepNorm",
    "keel": "KEEL",
    "rezero": "ReZero",
}


@dataclass(frozen=True, kw_only=True)
class PostNormStallsAtDepth(Claim):
    """The validation loss of deep decoders under five schemes, without warm-up.

    Args:
        num_layers: the depth.
        steps: of training.
        learning_rate: of AdamW, from the first step on.
    """

    seeds: int = 2
    num_layers: int = 24
    steps: int = 150
    learning_rate: float = 2e-3

    title: ClassVar[str] = "Deep Post-LN stalls without care; Pre-LN, DeepNorm, KEEL and ReZero train"
    statement: ClassVar[str] = (
        "Beyond some depth Post-LN does not train with the usual settings, where schemes made for depth do."
    )
    number: ClassVar[str] = "Post-LN fails at 18 + 18 layers; ReZero trains over 100 layers, DeepNorm and KEEL 1000"
    about: ClassVar[tuple[str, ...]] = ("post-norm", "pre-norm", "deep-norm", "keel", "rezero")
    reference: ClassVar[str] = (
        "Takase et al. 2022, arXiv:2206.00330; Wang et al. 2022, arXiv:2203.00555; Bachlechner et al. 2020, "
        "arXiv:2003.04887; Chen and Wei 2026, arXiv:2601.19895"
    )
    experiment: ClassVar[str] = (
        "Decoders of 24 layers and width 32 on Shakespeare's bytes, 150 steps of 256 tokens, AdamW at 0.002 without "
        "warm-up"
    )
    embedding: ClassVar[str] = EMBEDDING
    criterion: ClassVar[str] = (
        f"Post-LN ends no more than {LEARNED} nats below the unigram entropy in every seed, the four others lower; if "
        "none of them gets there, the size is too small"
    )
    axes: ClassVar[Axes] = Axes(x="step", y="validation loss, nats a token", shows="end")

    def measure(self, progress: OnProgress) -> Measured:
        """The learning curves, and the unigram entropy."""
        config = short_run(
            self.steps, num_layers=self.num_layers, learning_rate=self.learning_rate, warm_up=0.0, evaluations=5
        )
        runs = train_all({name: replace(config, scheme=name) for name in LABELS}, self.seeds, progress)
        lines = curves(runs, LABELS)
        return {**lines, "entropy": entropy_line(runs, lines["pre-norm"])}

    def judge(self, measured: Measured) -> Judgement:
        """Who ends below the unigram entropy."""
        bar = measured["entropy"].last.mean - LEARNED
        ends = {name: measured[name].points[max(measured[name].points)] for name in LABELS}
        others = [name for name in LABELS if name != "post-norm"]
        stuck = [name for name in others if not all(end < bar for end in ends[name])]
        stalls = not any(end < bar for end in ends["post-norm"])
        verdict = "reproduced" if stalls and not stuck else "not reproduced"
        listed = ", ".join(f"{LABELS[name]} {said(measured[name].last)}" for name in LABELS)
        return Judgement(
            verdict="not testable at this size" if len(stuck) == len(others) else verdict,
            quantity="Post-LN's last validation loss",
            figure=measured["post-norm"].last,
            sentence=f"After {self.steps} steps at {self.num_layers} layers the validation loss is: {listed}; the "
            f"unigram entropy is {bar + LEARNED:.2f}.",
        )
