"""KromHC: mixing by a Kronecker product of two-by-two matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from addnorm.checks import check_positive
from addnorm.errors import UserError
from addnorm.residual import Connection, Site
from addnorm.schemes._mixing import IDENTITY_LOGIT, Coefficients, MixingConnection, MixingForm, favour_home_
from addnorm.schemes._streams import StreamScheme

if TYPE_CHECKING:
    from jaxtyping import Float


class KroneckerCoefficients(Coefficients):
    """`H_res = U_1 (x) ... (x) U_K`, `U_k = p_k I + (1 - p_k) swap`; a pair of logits a factor."""

    def __init__(self, d_model: int, scheme: KromHC, home: int) -> None:
        n = scheme.streams
        factors = n.bit_length() - 1
        super().__init__(d_model, MixingForm(streams=n, mixing=2 * factors, home=home, eps=scheme.eps))
        self.initial_alpha = scheme.alpha
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly the identity; read and write favour the home stream."""
        n = self.form.streams
        favour_home_(self, self.initial_alpha)
        self.bias[2 * n :: 2] = 0.0
        self.bias[2 * n + 1 :: 2] = IDENTITY_LOGIT

    def matrix(self, logits: Float[Tensor, "mixing all_tokens"]) -> Float[Tensor, "n n all_tokens"]:
        """The product: swapping the streams whose numbers differ in bits s has the weight `prod_k U_k[0, s_k]`."""
        pairs = logits.unflatten(0, (-1, 2)).softmax(1)
        weights = pairs[0]
        for pair in pairs[1:]:  # the first factor is the highest bit
            weights = (weights.unsqueeze(1) * pair).flatten(0, 1)
        stream = torch.arange(self.form.streams, device=logits.device)
        return weights[stream[:, None] ^ stream]


@dataclass(frozen=True, kw_only=True)
class KromHC(StreamScheme):
    """KromHC: hyper-connections whose mixing is a Kronecker product of doubly stochastic two-by-two matrices.

        X <- H_res X + H_post^T F(n(H_pre X)),  X in R^{n x d},  n = 2^K;    hidden = n(sum_i X_i)
        H_res = U_1 (x) ... (x) U_K,  U_k = [[p_k, 1 - p_k], [1 - p_k, p_k]]
        (p_k, 1 - p_k) = softmax((a_res phi_res x~ + b_res)_{2k, 2k+1}),  x~ = RMSNorm(vec(X))
        H_pre = sigmoid(a_pre phi_pre x~ + b_pre),  H_post = 2 sigmoid(a_post phi_post x~ + b_post)

    A product of doubly stochastic matrices is doubly stochastic exactly, and 2K logits make it, where `mhc` needs n^2
    and `mhc-lite` n!; not every doubly stochastic matrix is such a product (all of these are symmetric). Before
    training `phi = 0`, `a = 0.01`; `b_pre` and `b_post` are 1 at stream i mod n and -1 elsewhere (so this does not
    start as Pre-LN); `b_res` is (0, -8) for each factor.

    Reference: Zhou et al. 2026, arXiv:2601.21579; initial values as in github.com/wz1119/KromHC.
    Cost: nd(2K + 2n) + 2K + 2n + 3 parameters a sublayer beside the norm, as many multiplications a token; residual
    traffic as `mhc`, 34d a token and sublayer for n = 4.
    Deviation: that code gives RMSNorm a gain, which `phi` absorbs. The paper allows factors of any size, with
    permutations as in mHC-lite; its code, as here, has those of size 2 alone.

    Args:
        streams: how many; a power of two.
        alpha: initial factor on the three projections.
        eps: added to the mean square of the streams.
    """

    alpha: float = 0.01
    eps: float = 1e-20

    diagram: ClassVar[str] = "streams:4 fork skip:H_res mix:H_pre box:n sublayer scale:H_post add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)
        check_positive("eps", self.eps)
        if self.streams & (self.streams - 1):
            below = 1 << (self.streams.bit_length() - 1)
            raise UserError(
                f"streams={self.streams} is not a power of two, which krom-hc needs; use {below} or {2 * below}, "
                "or mhc, which takes any number."
            )

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm, the projection of all streams and its biases."""
        return MixingConnection(d_model, self.norm, KroneckerCoefficients(d_model, self, site.index % self.streams))
