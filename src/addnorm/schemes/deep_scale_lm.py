"""DeepScaleLM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_probability
from addnorm.errors import UserError
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.pre_norm import PreNormConnection

if TYPE_CHECKING:
    from jaxtyping import Float


class WeightedSumConnection(PreNormConnection):
    """`lambda * x + beta * F(norm(x))`, `lambda^2 + beta^2 = 1`."""

    def __init__(self, d_model: int, norm: NormKind, beta_squared: float) -> None:
        super().__init__(d_model, norm)
        self.on_skip, self.on_update = (1 - beta_squared) ** 0.5, beta_squared**0.5

    def write(self, skip: Tensor, update: Float[Tensor, "*tokens d_model"]) -> Tensor:
        """Add with weights whose squares add up to one."""
        return self.on_skip * skip + self.on_update * update


@dataclass(frozen=True, kw_only=True)
class DeepScaleLM(Scheme):
    """DeepScaleLM: Pre-LN whose initial values and sums keep stream and updates at unit variance at any depth.

        x <- lambda * x + beta * F(n(x)),  lambda^2 + beta^2 = 1;    hidden = n(x)

    beta^2 is 1 / L, at most 1 / 2. Dropout p and the correlation r between tokens set the initial weights: in the
    feed-forward `Var[W_1] = Var[W_2] = sqrt(2 (1 - p) / (d d_ff))`, in the attention of width d
    `Var[W_v] = Var[W_o] = sqrt((1 - p) / r) / d`. r starts at `(1 - p) correlation` and becomes
    `lambda^2 r + beta^2 r_out` with each sublayer: r_out is 1 - p for an attention and, for a feed-forward,
    `(1 - p) (r + (sqrt(1 - r^2) - r acos r) / pi)`.

    Reference: Kedia et al. 2024, arXiv:2403.09635.
    Cost: as Pre-LN: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer.
    Deviation: the authors' code has lambda^2 = 0.995 and beta^2 = 0.005, as here at 200 layers. They draw the
    embeddings at unit variance; here a norm after the embedding does so. Theirs has d_ff = 4d, ReLU and attention to
    all tokens; with GELU or causal attention the variances are near one only. Queries and keys are left as the model
    draws them.

    Args:
        beta_squared: None = by the number of layers, as above.
        dropout: p, that of the model.
        correlation: r of the embeddings; the authors found 0.221 for words by Zipf's law.
    """

    beta_squared: float | None = None
    dropout: float = 0.0
    correlation: float = 0.221

    diagram: ClassVar[str] = "fork skip:λ box:n sublayer scale:β add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("dropout", self.dropout)
        if self.beta_squared is not None:
            check_probability("beta_squared", self.beta_squared)
        if not 0 < self.correlation <= 1:
            raise UserError(f"correlation={self.correlation} is not allowed; use a number above 0, up to 1.")

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, no other parameter."""
        return WeightedSumConnection(d_model, self.norm, self._beta_squared(site))

    def entrance(self, d_model: int) -> nn.Module:
        """Unit variance."""
        return make_norm(self.norm, d_model)

    @torch.no_grad()
    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """Give attention and feed-forward the variance that makes their output's one; leave other modules."""
        inner, outer = value_path[0], value_path[-1]
        if site.kind == "feedforward":
            variance = math.sqrt(2 * (1 - self.dropout) / (inner.in_features * outer.in_features))
        elif site.kind in ("attention", "cross-attention"):
            variance = math.sqrt((1 - self.dropout) / self.correlation_at(site)) / inner.in_features
        else:
            return
        for linear in value_path:
            linear.weight.mul_(math.sqrt(variance) / linear.weight.std(correction=0))

    def correlation_at(self, site: Site) -> float:
        """r at a site: what the sublayers before it have made of the embeddings' correlation."""
        keep, r, to_layer = 1 - self.dropout, self.correlation * (1 - self.dropout), site.depth // site.num_layers
        beta_squared = self._beta_squared(site)
        for index in range(site.index):
            out = keep
            if index % to_layer == to_layer - 1:
                out *= r + (math.sqrt(1 - r * r) - r * math.acos(r)) / math.pi
            r = (1 - beta_squared) * r + beta_squared * out
        return r

    def _beta_squared(self, site: Site) -> float:
        return min(1 / site.num_layers, 0.5) if self.beta_squared is None else self.beta_squared
