"""RealFormer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.layers.inside import Inside, Part, Passed, PlaceShape
from addnorm.residual import Scheme, Site
from addnorm.schemes._around import Around
from addnorm.schemes.post_norm import PostNorm

if TYPE_CHECKING:
    from jaxtyping import Float

SCORES = "the scores of the layer before"


class RunningScores(nn.Module):
    """`S + S_before`, which is left for the next attention."""

    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first

    def forward(self, scores: Float[Tensor, "batch heads queries keys"], passed: Passed) -> Tensor:
        """The running sum."""
        passed[SCORES] = scores if self.is_first else scores + passed[SCORES]
        return passed[SCORES]


@dataclass(frozen=True, kw_only=True)
class RunningScoresPart(Part):
    """Scores summed up over the layers."""

    is_first: bool

    def build(self, shape: PlaceShape) -> nn.Module:
        """No parameter."""
        return RunningScores(is_first=self.is_first)

    @property
    def gives(self) -> frozenset[str]:
        """The sum so far."""
        return frozenset({SCORES})

    @property
    def takes(self) -> frozenset[str]:
        """The sum of the layers before, but in the first."""
        return frozenset() if self.is_first else frozenset({SCORES})


@dataclass(frozen=True, kw_only=True)
class RealFormer(Around):
    """RealFormer: every attention adds its scores to those of the layer before, ahead of the mask and the softmax.

        S_l <- Q_l K_l^T / sqrt(d_head) + S_(l-1),  x <- n(x + W_o softmax(S_l + mask) V_l);    hidden = x

    All else is as in the inner scheme: Post-LN in the paper. Self-attentions and cross-attentions each have their own
    sum. Needs the attention kernel that holds the scores: `attention="plain"`. A query's scores in one layer depend on
    its scores in the layer before and on nothing else, so decoding with a cache stores no scores.

    Reference: He et al. 2020, arXiv:2012.11747.
    Cost: no parameter; the scores of one layer live on to the next: tokens^2 numbers a head, in training every layer's.

    Args:
        inner: the scheme that places norms and sums.
    """

    inner: Scheme = PostNorm()

    diagram: ClassVar[str] = "fork mix:S sublayer add box:n"
    drawn: ClassVar[str] = "mix:S sublayer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inside(_ANY)  # what is refused is refused at once

    def inside(self, site: Site) -> Inside:
        """The inner scheme's, and the sum of the scores."""
        inner = super().inside(site)
        if inner.scores is not None:
            raise UserError(f"inner={self.inner} changes the scores too; take another inner scheme.")
        return replace(inner, scores=RunningScoresPart(is_first=site.layer == 0))


_ANY = Site(index=0, depth=2, layer=0, num_layers=1, kind="attention")
