"""Identity hyper-connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_positive
from addnorm.kernels.precision import wide
from addnorm.kernels.streams import add_update, read_streams
from addnorm.layers.norm import make_norm
from addnorm.residual import Connection, Site
from addnorm.schemes._streams import (
    GATE_FLOOR,
    GATE_STD,
    Mixed,
    Reduce,
    StreamScheme,
    mean_logit,
    project_streams,
    tokens_first,
)

if TYPE_CHECKING:
    from jaxtyping import Float


class IdentityHCConnection(Connection):
    """`X + H_post^T F(n(H_pre X))`; the rows of `phi` and `bias` are those of `H_pre`, then those of `H_post`."""

    def __init__(self, d_model: int, scheme: IdentityHC) -> None:
        super().__init__()
        n = scheme.streams
        self.scheme, self.eps = scheme, scheme.eps
        self.norm = make_norm(scheme.norm, d_model)
        self.phi = nn.Parameter(torch.empty(2 * n, n * d_model))
        self.alpha = nn.Parameter(torch.empty(2))
        self.bias = nn.Parameter(torch.empty(2 * n))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly the mean of the streams is read, and nearly the update itself is written."""
        self.phi.normal_(0.0, self.scheme.projection_std)
        self.alpha.fill_(self.scheme.alpha)
        self.bias.zero_()
        self.bias[: self.scheme.streams] = mean_logit(self.scheme.streams)

    def read(self, state: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Mixed]:
        """`n(H_pre X)`; the skip is the streams and `H_post`."""
        pre, post = project_streams(state, self.phi, self.eps).chunk(2)
        b_pre, b_post = wide(self.bias)[:, None].chunk(2)
        pre = torch.sigmoid(self.alpha[0] * pre + b_pre) + GATE_FLOOR
        post = self.scheme.magnitude * torch.sigmoid(self.alpha[1] * post + b_post) + GATE_FLOOR
        return self.norm(read_streams(state, tokens_first(pre, state))), Mixed(state, tokens_first(post, state))

    def write(self, skip: Mixed, update: Tensor) -> Tensor:
        """`X + H_post^T y`, added up in float32."""
        streams, gains = skip
        return add_update(streams, update, gains)


@dataclass(frozen=True, kw_only=True)
class IdentityHC(StreamScheme):
    """Identity-HC: hyper-connections whose streams are never mixed, only read together and written apart.

        X <- X + H_post^T F(n(H_pre X)),  X in R^{n x d};    hidden = n(H_head X)
        H_pre = sigmoid(a_pre x~ phi_pre + b_pre) + 1e-6,  H_post = 2 sigmoid(a_post x~ phi_post + b_post) + 1e-6
        H_head = sigmoid(a x~ phi + b) + 1e-6,  x~ = RMSNorm(vec(X))

    The form of HY-V4: `H_res = I`, so nothing needs projecting onto a manifold. It starts near Pre-LN: `b_pre =
    -ln(n - 1)` makes the read the mean, `b_post = 0` the gain 1, and the projections move both by about 1e-3 at nd
    = 256. They must not start at zero: every stream would be treated alike and all would stay equal.

    Reference: Xie et al. 2025, arXiv:2512.24880 for the connection with a mixture; the form without is HY-V4's
    (Tencent 2026), here after its implementation in transformers 5.23.
    Cost: 2n(nd + 1) + 2 parameters a sublayer beside the norm, 2n times nd multiplications a token; residual
    traffic about (3n + 2)d a token and sublayer.

    Args:
        magnitude: the largest gain of an update.
        alpha: initial factor on the projections.
        projection_std: of the initial projections; above 0.
        eps: added to the mean square of the streams.
    """

    reduce: Reduce = "head"
    magnitude: float = 2.0
    alpha: float = 0.01
    projection_std: float = GATE_STD
    eps: float = 1e-5

    diagram: ClassVar[str] = "streams:4 fork mix:H_pre box:n sublayer scale:H_post add"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("magnitude", "alpha", "projection_std"):
            check_positive(name, getattr(self, name))
        check_at_least("eps", self.eps, 0)

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm, the projection of all streams and its biases."""
        return IdentityHCConnection(d_model, self)
