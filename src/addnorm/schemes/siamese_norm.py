"""SiameseNorm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class Siblings(NamedTuple):
    """The stream X, normalised at every sublayer, and the stream Y, which never is."""

    post: Float[Tensor, "*tokens d_model"]
    pre: Float[Tensor, "*tokens d_model"]


class SiameseConnection(Connection):
    """`X <- a(X) + F(z) / c`, `Y <- Y + F(z)`, `z = b(a(X) + n(Y))`, with norms a, b and n."""

    def __init__(self, d_model: int, norm: NormKind, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor
        self.post_norm = make_norm(norm, d_model)
        self.pre_norm = make_norm(norm, d_model)
        self.input_norm = make_norm(norm, d_model)

    def read(self, state: Siblings) -> tuple[Float[Tensor, "*tokens d_model"], Siblings]:
        """The norm of both streams' norms; the skip is `a(X)` and `Y`."""
        x = self.post_norm(state.post)
        return self.input_norm(x + self.pre_norm(state.pre)), state._replace(post=x)

    def write(self, skip: Siblings, update: Tensor) -> Siblings:
        """Add to both, to the first the less the deeper."""
        return Siblings(skip.post + update / self.divisor, skip.pre + update)


class SiameseEntrance(nn.Module):
    """The embedding is both streams."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Siblings:
        """Twice the same."""
        return Siblings(embedding, embedding)


class SiameseExit(Exit):
    """`n(p(X) + q(Y))`."""

    def __init__(self, d_model: int, norm: NormKind) -> None:
        super().__init__(d_model, norm)
        self.post_norm = make_norm(norm, d_model)
        self.pre_norm = make_norm(norm, d_model)

    def collapse(self, state: Siblings) -> Float[Tensor, "*tokens d_model"]:
        """The sum of the normalised streams."""
        return self.post_norm(state.post) + self.pre_norm(state.pre)


@dataclass(frozen=True, kw_only=True)
class SiameseNorm(Scheme):
    """SiameseNorm: a Post-LN stream and a Pre-LN stream side by side, which share the sublayers.

        X <- n_a(X) + F(z) / sqrt(2 (l + 1));    Y <- Y + F(z);    z = n_b(n_a(X) + n_c(Y));    X = Y = embedding
        hidden = n(n_p(X) + n_q(Y))

    `l` counts layers from 0 and every n has its own parameters. `Y` carries gradients past all norms, `X` stays of
    one size.

    Reference: Li et al. 2026, arXiv:2602.08064 (ICML 2026), after deit-model-siamesenorm.py of
    github.com/Qwen-Applications/SiameseNorm.
    Cost: three norms a sublayer, 3d to 6d parameters, and two more at the exit; residual traffic about 8d a token and
    sublayer, state 2d.
    Deviation: that code has the eps 1e-6 of vision transformers; here it is that of all norms, 1e-5.
    Deviation: this is the form for vision alone. In the authors' language model (OLMo_model_hybrid_pre.py there) the
    attention reads `n_a(X) + n_c(Y)` without n_b, its queries, keys and values have norms of their own instead, and X
    passes it unnormalised: `X <- X + F / c`.
    """

    diagram: ClassVar[str] = "streams:2 fork skip:n mix:n box:n sublayer scale:1/c add"

    def connection(self, d_model: int, site: Site) -> Connection:
        """Three norms, no other parameter."""
        return SiameseConnection(d_model, self.norm, math.sqrt(2 * (site.layer + 1)))

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding, twice."""
        return SiameseEntrance()

    def exit(self, d_model: int) -> Exit:
        """A norm for each stream, and one for their sum."""
        return SiameseExit(d_model, self.norm)
