"""mHC-lite: mixing by a weighted mean of all permutations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from addnorm.checks import check_positive
from addnorm.config import OptimizerRule
from addnorm.errors import UserError
from addnorm.kernels.derivatives import is_traced
from addnorm.kernels.precision import uncast
from addnorm.residual import Connection, Site
from addnorm.schemes._mixing import IDENTITY_LOGIT, Coefficients, MixingConnection, MixingForm, favour_home_
from addnorm.schemes._streams import StreamScheme

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_STREAMS = 6  # 720 permutations; 7 streams would have 5040, and each has nd weights a site


class PermutationCoefficients(Coefficients):
    """`H_res = sum_k softmax(.)_k P_k` over the n! permutation matrices; the identity is the first."""

    def __init__(self, d_model: int, scheme: MHCLite, home: int) -> None:
        n = scheme.streams
        super().__init__(d_model, MixingForm(streams=n, mixing=factorial(n), home=home, eps=scheme.eps))
        self.initial_alpha = scheme.alpha
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly the identity; read and write favour the home stream."""
        n = self.form.streams
        favour_home_(self, self.initial_alpha)
        self.bias[2 * n :] = IDENTITY_LOGIT
        self.bias[2 * n] = 0.0

    def matrix(self, logits: Float[Tensor, "mixing all_tokens"]) -> Float[Tensor, "n n all_tokens"]:
        """The weighted mean of the permutations."""
        entries = _entries_like(self.form.streams, logits)
        with uncast(logits):
            return (entries @ logits.softmax(0)).unflatten(0, (self.form.streams, -1))


def _entries_like(n: int, logits: Tensor) -> Float[Tensor, "n_n permutations"]:
    """The entries beside these logits; kept for plain tensors, since n = 6 has 26,000 of them."""
    if is_traced() or type(logits) is not Tensor:
        return torch.tensor(_entries(n), dtype=logits.dtype, device=logits.device)
    return _kept_entries(n, logits.dtype, logits.device)


@cache
def _kept_entries(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else no backward could keep them
        return torch.tensor(_entries(n), dtype=dtype, device=device)


@cache
def _entries(n: int) -> list[list[float]]:
    """The entries of all permutation matrices, row by row: one column a permutation, the identity first."""
    orders = list(permutations(range(n)))
    return [[float(order[row] == column) for order in orders] for row in range(n) for column in range(n)]


@dataclass(frozen=True, kw_only=True)
class MHCLite(StreamScheme):
    """mHC-lite: hyper-connections whose mixing is a weighted mean of all permutations of the streams.

        X <- H_res X + H_post^T F(n(H_pre X)),  X in R^{n x d};    hidden = n(sum_i X_i)
        H_res = sum_{k <= n!} softmax(a_res phi_res x~ + b_res)_k P_k,  x~ = RMSNorm(vec(X))
        H_pre = sigmoid(a_pre phi_pre x~ + b_pre),  H_post = 2 sigmoid(a_post phi_post x~ + b_post)

    Every doubly stochastic matrix is such a mean (Birkhoff and von Neumann), and every such mean is doubly stochastic
    exactly, where the iterations of `mhc` come near it. Before training `phi = 0`, `a = 0.01`; `b_pre` and `b_post`
    are 1 at stream i mod n and -1 elsewhere (a gain of 1.46 there and 0.54 elsewhere, so this does not start as
    Pre-LN); `b_res` is 0 for the identity and -8 for all others.

    Reference: Yang and Gao 2026, arXiv:2601.05732; initial values as in github.com/wz1119/KromHC.
    Cost: nd(n! + 2n) + n! + 2n + 3 parameters a sublayer beside the norm, as many multiplications a token, and n^2 n!
    for the mean; residual traffic as `mhc`, 34d a token and sublayer for n = 4.
    Deviation: that code applies the mean transposed, which renames permutations, and gives RMSNorm a gain, which
    `phi` absorbs.

    Args:
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
        if self.streams > MOST_STREAMS:
            raise UserError(
                f"streams={self.streams} is not allowed: mhc-lite learns a weight for each of n! permutations; "
                f"use 2 to {MOST_STREAMS}, or mhc or krom-hc, which take more."
            )

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm, the projection of all streams and its biases."""
        return MixingConnection(d_model, self.norm, PermutationCoefficients(d_model, self, site.index % self.streams))

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The map to the coefficients decays, as in the authors' code."""
        return OptimizerRule(decays=own == "coefficients.phi")
