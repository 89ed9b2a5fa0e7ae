"""Stochastic depth around any scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from addnorm.checks import check_probability
from addnorm.layers.around import AroundRecipe
from addnorm.residual import Connection, Scheme, Site, State
from addnorm.schemes._around import AroundConnection, AroundConnections

if TYPE_CHECKING:
    from jaxtyping import Float


class StochasticDepthConnection(AroundConnection):
    """The inner connection, whose update is left out for some samples in training."""

    def __init__(self, inner: Connection, probability: float) -> None:
        super().__init__(inner)
        self.probability = probability

    def write(self, skip: State, update: Float[Tensor, "batch *tokens d_model"]) -> State:
        """As the inner connection, with the update masked by sample and rescaled."""
        return self.inner.write(skip, self._masked(update))

    def fused(self) -> AroundRecipe | None:
        """As the inner connection, with the update masked."""
        return self.fused_with(update=self._masked)

    def _masked(self, update: Tensor) -> Tensor:
        return update * self._mask(update) if self.training else update

    def _mask(self, update: Tensor) -> Float[Tensor, "batch *ones"]:
        """Zero with the probability of dropping, else what keeps the expectation; one draw a sample."""
        keep = torch.full_like(update[(slice(None), *[slice(1)] * (update.dim() - 1))], 1 - self.probability)
        return keep.bernoulli() / (1 - self.probability)


@dataclass(frozen=True, kw_only=True)
class StochasticDepth(AroundConnections):
    """Stochastic depth: in training each sample skips a sublayer at random, more often the deeper the sublayer.

        F(x) <- b / (1 - p_i) * F(x),  b ~ Bernoulli(1 - p_i) per sample,  p_i = p_max * i / (N - 1)

    All else is as in the inner scheme, in evaluation everything. What the inner scheme does beside the update, such
    as the norm of Post-LN, is done for skipped samples too. The first dimension of a sublayer's output is taken for
    the samples.

    Reference: Huang et al. 2016, arXiv:1603.09382.
    Cost: none beside the inner scheme's; the sublayer is computed for skipped samples too.
    Deviation: the paper scales the update by 1 - p_i in evaluation; here, as is usual now, by 1 / (1 - p_i) in
    training. Its first layer is dropped too, with p_max / L; here p starts at zero.

    Args:
        inner: the scheme that is wrapped.
        p_max: the probability of skipping the last sublayer.
    """

    p_max: float = 0.1

    diagram: ClassVar[str] = "fork box:n sublayer scale:b add"
    drawn: ClassVar[str] = "sublayer scale:b"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("p_max", self.p_max)

    def around(self, inner: Connection, site: Site) -> AroundConnection:
        """With its probability of being skipped."""
        return StochasticDepthConnection(inner, self.p_max * site.index / max(site.depth - 1, 1))

    def starts_as(self) -> Scheme | None:
        """The inner scheme, in evaluation; in training its expectation over the masks at each sublayer."""
        return self.inner
