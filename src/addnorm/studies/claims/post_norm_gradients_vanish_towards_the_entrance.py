"""Whether Post-LN's gradients are smaller near the entrance, before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, first_over_last_gradient, toy

VANISHES = 0.1


@dataclass(frozen=True, kw_only=True)
class PostNormGradientsVanishTowardsTheEntrance(FreshClaim):
    """`||dL/dW_2||` of the first feed-forward over that of the last, before training.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (6, 18, 48)

    title: ClassVar[str] = "Post-LN's gradients vanish towards the entrance; B2T's skip prevents it"
    statement: ClassVar[str] = (
        "The norms after the additions shrink the gradient on its way to the lower layers of Post-LN, which makes deep "
        "ones hard to train; a skip around all norms of a layer but its last avoids most of that."
    )
    number: ClassVar[str] = "in a figure: the gradient falls towards the entrance in Post-LN with 18 + 18 layers"
    about: ClassVar[tuple[str, ...]] = ("post-norm", "b2t")
    reference: ClassVar[str] = "Takase et al. 2022, arXiv:2206.00330"
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 6, 18 and 48 layers, Glorot weights, one backward on random tokens; "
        "before training, and language modelling in place of translation"
    )
    criterion: ClassVar[str] = (
        f"at the largest depth Post-LN's first gradient is below {VANISHES} of its last, and B2T's ratio is larger"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="gradient of the first layer over the last", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The ratio by depth under both schemes."""

        def ratio(name: str, depth: float, seed: int) -> float:
            return first_over_last_gradient(toy(name, int(depth), seed, start), seed)

        return lines_over({"post-norm": "Post-LN", "b2t": "B2T"}, self.depths, self.seeds, progress, ratio)

    def judge_at(self, measured: Measured) -> Judgement:
        """Both ratios at the largest depth."""
        post, b2t = measured["post-norm"].last, measured["b2t"].last
        holds = post.mean < VANISHES and b2t.mean > post.mean
        return Judgement(
            verdict="reproduced" if holds else "not reproduced",
            quantity=f"first over last gradient of Post-LN at {max(self.depths)} layers",
            figure=post,
            sentence=f"At {max(self.depths)} layers the first layer's gradient is {said(post)} of the last one's in "
            f"Post-LN and {said(b2t)} in B2T, before training.",
        )
