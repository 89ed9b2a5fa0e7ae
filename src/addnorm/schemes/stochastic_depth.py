"""Stochastic depth around any scheme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_probability
from addnorm.config import OptimizerRule
from addnorm.errors import UserError
from addnorm.layers.inside import Inside
from addnorm.layers.norm import NormKind
from addnorm.layers.views import Views
from addnorm.residual import Connection, Exit, Scheme, Site, State
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class StochasticDepthConnection(Connection):
    """The inner connection, whose update is left out for some samples in training."""

    def __init__(self, inner: Connection, probability: float) -> None:
        super().__init__()
        self.inner, self.probability = inner, probability

    def read(self, state: State) -> tuple[Float[Tensor, "batch *tokens d_model"] | Views, State]:
        """As the inner connection."""
        return self.inner.read(state)

    def write(self, skip: State, update: Float[Tensor, "batch *tokens d_model"]) -> State:
        """As the inner connection, with the update masked by sample and rescaled."""
        return self.inner.write(skip, update * self._mask(update) if self.training else update)

    def _mask(self, update: Tensor) -> Float[Tensor, "batch *ones"]:
        """Zero with the probability of dropping, else what keeps the expectation; one draw a sample."""
        keep = torch.full_like(update[(slice(None), *[slice(1)] * (update.dim() - 1))], 1 - self.probability)
        return keep.bernoulli() / (1 - self.probability)


@dataclass(frozen=True, kw_only=True)
class StochasticDepth(Scheme):
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

    norm: NormKind = field(init=False, default="layer")
    inner: Scheme = PreNorm()
    p_max: float = 0.1

    diagram: ClassVar[str] = "fork box:n sublayer scale:b add"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Scheme):
            raise UserError(f"inner={self.inner} is not a scheme; write a scheme's name, with its fields if need be.")
        check_probability("p_max", self.p_max)
        # Derived, not chosen: the norm and the drawing are the inner scheme's.
        object.__setattr__(self, "norm", self.inner.norm)
        object.__setattr__(self, "diagram", self.inner.diagram.replace("sublayer", "sublayer scale:b"))
        super().__post_init__()

    def connection(self, d_model: int, site: Site) -> Connection:
        """The inner connection with its probability of being skipped."""
        probability = self.p_max * site.index / max(site.depth - 1, 1)
        return StochasticDepthConnection(self.inner.connection(d_model, site), probability)

    def entrance(self, d_model: int) -> nn.Module:
        """As the inner scheme."""
        return self.inner.entrance(d_model)

    def exit(self, d_model: int) -> Exit:
        """As the inner scheme."""
        return self.inner.exit(d_model)

    def inside(self, site: Site) -> Inside:
        """As the inner scheme."""
        return self.inner.inside(site)

    @property
    def constrains_weights(self) -> bool:
        """As the inner scheme."""
        return self.inner.constrains_weights

    def after_step_(self, site: Site | None, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> None:
        """As the inner scheme."""
        self.inner.after_step_(site, rows, columns)

    def logits(self, d_model: int, vocab_size: int) -> nn.Module:
        """As the inner scheme."""
        return self.inner.logits(d_model, vocab_size)

    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """As the inner scheme."""
        self.inner.init_sublayer_(value_path, site)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """As the inner scheme."""
        return self.inner.optimizer_rule(site, own.removeprefix("inner.") if own else own)

    def starts_as(self) -> Scheme | None:
        """The inner scheme, in evaluation; in training its expectation over the masks at each sublayer."""
        return self.inner
