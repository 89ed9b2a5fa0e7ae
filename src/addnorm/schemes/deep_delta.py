"""Deep delta learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.checks import check_positive
from addnorm.errors import UserError
from addnorm.kernels.precision import dot, uncast, wide
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


class Gates(NamedTuple):
    """The stream, how far it moves along the direction of the update, and the value that it takes there."""

    stream: Float[Tensor, "*tokens d_model"]
    beta: Float[Tensor, "*tokens"]
    value: Float[Tensor, "*tokens"]


class DeepDeltaConnection(Connection):
    """`x + beta k (v - k^T x)`, where the sublayer's output gives the direction `k`."""

    def __init__(self, d_model: int, scheme: DeepDelta) -> None:
        super().__init__()
        self.scheme, self.k_eps = scheme, scheme.k_eps
        self.norm = make_norm(scheme.norm, d_model)
        self.beta = nn.Parameter(torch.empty(d_model))
        self.beta_bias = nn.Parameter(torch.empty(()))
        self.value = nn.Parameter(torch.empty(d_model))
        self.value_bias = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Beta near its initial value, v near half its largest."""
        for weight in (self.beta, self.value):
            weight.normal_(0.0, 0.5 * len(weight) ** -0.5)
        half = self.scheme.beta_init / 2
        self.beta_bias.fill_(math.log(half / (1 - half)))
        self.value_bias.zero_()

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Gates]:
        """`n(x)`; the skip is the stream, beta and v."""
        normed = self.norm(state)
        with uncast(state):
            beta = 2 * torch.sigmoid(wide(normed) @ wide(self.beta) + wide(self.beta_bias))
            value = torch.sigmoid(wide(state) @ wide(self.value) + wide(self.value_bias))
        return normed, Gates(state, beta, self.scheme.value_scale * value)

    def write(self, skip: Gates, update: Tensor) -> Tensor:
        """`x + beta (v - k^T x) k`, `k = y / |y|`, in float32."""
        x, y = wide(skip.stream), wide(update)
        k = y * (dot(y, y) + self.k_eps**2).rsqrt().unsqueeze(-1)
        step = skip.beta * (skip.value - dot(k, x))
        return torch.addcmul(x, step.unsqueeze(-1), k).to(skip.stream.dtype)


@dataclass(frozen=True, kw_only=True)
class DeepDelta(Scheme):
    """DDL: the sublayer's output is a direction, along which the stream forgets what it holds and takes a new value.

        x <- x + beta k (v - k^T x) = (I - beta k k^T) x + beta v k;    hidden = n(x)
        k = F(n(x)) / |F(n(x))|,  beta = 2 sigmoid(w_beta^T n(x) + b_beta),  v = 4 sigmoid(w_v^T x + b_v)

    Of the eigenvalues of `I - beta k k^T` all are 1 but one, which is 1 - beta: at beta = 0 the stream is kept, at 1
    its part along `k` is replaced by v, at 2 it is reflected. The size of the sublayer's output has no effect.
    Before training beta is near 1 (`b_beta = 0`) and v near 2; the paper gives no start from which this is a known
    scheme.

    Reference: Zhang et al. 2026, arXiv:2601.00417, with a stream of one value a feature (d_v = 1); the gates as in
    model/DDL-vdim1-gpt-mha-rope.py of github.com/yifanzhang-pro/deep-delta-learning.
    Cost: 2d + 2 parameters a sublayer beside the norm, 4d multiplications a token; residual traffic about 6d a token
    and sublayer, state d.
    Deviation: the form with d_v values a feature compresses them by a convolution over tokens; a connection here
    never mixes tokens, so it is left out.

    Args:
        beta_init: beta before training, up to the part that depends on the token; between 0 and 2.
        value_scale: the largest v.
        k_eps: the length below which an output has no direction: `k = y / sqrt(|y|^2 + k_eps^2)`.
    """

    norm: NormKind = "rms"
    beta_init: float = 1.0
    value_scale: float = 4.0
    k_eps: float = 1e-5

    diagram: ClassVar[str] = "fork skip:I-βkkᵀ box:n sublayer box:k scale:βv add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("beta_init", self.beta_init)
        check_positive("value_scale", self.value_scale)
        check_positive("k_eps", self.k_eps)
        if self.beta_init >= 2:
            raise UserError(f"beta_init={self.beta_init} is not allowed; use a number between 0 and 2, such as 1.")

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm and the two gates."""
        return DeepDeltaConnection(d_model, self)
