"""Manifold-constrained hyper-connections.

What happens to one token at one site, with the shapes of n streams of width d:

    X  [n, d] --+-- RMSNorm over n d, phi --> [n + n + n^2] --+-- sigmoid ---> H_pre   [n]
                |                                             +-- 2 sigmoid -> H_post  [n]
                |                                             +-- Sinkhorn --> H_res   [n, n]
                |
                +-- H_pre X --> [d] -- norm, sublayer --> y [d] -- H_post^T y --> [n, d] --+
                |                                                                          |
                +-- H_res X ------------------------------------------------> [n, d] ------+--> X'  [n, d]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_count, check_finite, check_positive
from addnorm.config import OptimizerRule
from addnorm.kernels.mhc_read import Numbers, mhc_read, scale_of_rows
from addnorm.kernels.streams import add_update
from addnorm.layers.mhc_route import Mixing
from addnorm.layers.norm import make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes._streams import Mixed, ReadFrom, Reduce, StreamScheme, check_read_from, read_logits

if TYPE_CHECKING:
    from jaxtyping import Float


class MHCConnection(Connection):
    """`H_res X + H_post^T F(n(H_pre X))` with the coefficients of each token from all its streams.

    The rows of `phi` and `bias` are `n` for `H_pre`, `n` for `H_post`, and `n^2` for `H_res` row by row.
    """

    def __init__(self, d_model: int, site: Site, scheme: MHC) -> None:
        super().__init__()
        n = scheme.streams
        self.scheme, self.home, self.eps = scheme, site.index % n, scheme.eps
        self.iterations = scheme.iterations
        self.norm = make_norm(scheme.norm, d_model)
        self.phi = nn.Parameter(torch.empty(n * n + 2 * n, n * d_model))
        self.alpha = nn.Parameter(torch.empty(3))
        self.bias = nn.Parameter(torch.empty(n * n + 2 * n))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The static part alone decides, unless `projection_std` is above 0."""
        n = self.scheme.streams
        self.alpha.fill_(self.scheme.alpha)
        self.phi.zero_()
        if self.scheme.projection_std:
            self.phi.normal_(0.0, self.scheme.projection_std)
        self.bias.zero_()
        self.bias[:n] = read_logits(n, self.home, self.scheme.read_from)
        self.bias[2 * n :] = self.scheme.diagonal * torch.eye(n).flatten()

    @property
    def numbers(self) -> Numbers:
        """What is not learned."""
        return Numbers(iterations=self.iterations, eps=self.eps)

    def read(self, state: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Mixed]:
        """`n(H_pre X)`; the skip is `H_res X` and `H_post`."""
        scale = scale_of_rows(self.alpha, self.scheme.streams)
        read, mixed, post = mhc_read(state, self.phi, scale, self.bias, self.numbers)
        return self.norm(read), Mixed(mixed, post)

    def write(self, skip: Mixed, update: Tensor) -> Tensor:
        """`H_res X + H_post^T y`."""
        mixed, post = skip
        return add_update(mixed, update, post)

    def fused(self) -> Mixing:
        """The write, the next site's coefficients, its read and its norm are one pass over the streams."""
        return Mixing(norm=self.norm, phi=self.phi, alpha=self.alpha, bias=self.bias, numbers=self.numbers)


@dataclass(frozen=True, kw_only=True)
class MHC(StreamScheme):
    """mHC: hyper-connections whose mixing of streams is doubly stochastic.

        X <- H_res X + H_post^T F(n(H_pre X)),  X in R^{n x d};    hidden = n(mean_i X_i)
        H_pre = sigmoid(a_pre x~ phi_pre + b_pre),  H_post = 2 sigmoid(a_post x~ phi_post + b_post)
        H_res = Sinkhorn(exp(a_res mat(x~ phi_res) + b_res)),  x~ = RMSNorm(vec(X))

    Sinkhorn normalises columns, then rows, 20 times; rows end up summing to 1, so equal streams stay equal and no
    stream can grow by mixing. Of initial values the paper gives `a = 0.01` alone. Here `phi = 0`, `b_post = 0` (a gain
    of 1), `b_res` is `diagonal` times the identity, and `b_pre` reads stream i mod n with a weight of 0.95 and the
    others with what is left: the whole starts exactly as Pre-LN, and the streams can part. Equal entries
    (`read_from=all`, `b_pre = -ln(n - 1)`, HY-V4's choice) start as Pre-LN too, but with `phi = 0` they treat every
    stream alike and all stay equal but for rounding, so they need a `projection_std`.

    Reference: Xie et al. 2025, arXiv:2512.24880; Sinkhorn and Knopp 1967, doi:10.2140/pjm.1967.21.343.
    Cost: nd(n^2 + 2n) + n^2 + 2n + 3 parameters a sublayer beside the norm, as many multiplications a token, and 40
    normalisations of an n x n matrix; residual traffic 34d a token and sublayer for n = 4.
    Deviation: the streams are averaged at the exit, where hyper-connections sum them; the paper does not say, and the
    final norm removes the factor.
    Deviation: PaddleFleet ascribes to an appendix of the paper `b_pre = 3` on stream i mod n and -3 elsewhere, and
    `b_res = 6 I - 3`; the version read here has no such passage. The -3 of `b_res` cancels in Sinkhorn; the other
    entries of `b_pre` are -4.1 here, for a read that sums to 1.
    Deviation: DeepSeek-V4 adds 1e-6 to the read and within Sinkhorn, which it starts and ends on columns because it
    stores `H_res` transposed; the paper does not.

    Args:
        iterations: of Sinkhorn-Knopp.
        alpha: initial factor on the three projections.
        read_from: what `b_pre` reads at first: "home", nearly one stream a site, or "all", their mean.
        diagonal: of the initial `b_res`; 0 starts with streams that every site averages.
        projection_std: of the initial `phi`.
        eps: added to the mean square of the streams; the paper's.
    """

    reduce: Reduce = "mean"
    iterations: int = 20
    alpha: float = 0.01
    read_from: ReadFrom = "home"
    diagonal: float = 6.0
    projection_std: float = 0.0
    eps: float = 1e-20

    diagram: ClassVar[str] = "streams:4 fork skip:H_res mix:H_pre box:n sublayer scale:H_post add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("iterations", self.iterations)
        check_positive("alpha", self.alpha)
        check_finite("diagonal", self.diagonal)
        check_at_least("eps", self.eps, 0)
        check_read_from(self.read_from, self.projection_std)

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm, the projection of all streams and its biases."""
        return MHCConnection(d_model, site, self)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: the read sums to 1, every stream gets the same update, rows of `H_res` sum to 1."""
        return None if self.projection_std else self.pre_norm_of_equal_streams()

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The maps to the coefficients decay, and that of a head."""
        return OptimizerRule(decays=own in ("phi", "exit.weight"))
