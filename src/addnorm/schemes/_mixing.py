"""What the schemes share that mix their streams by a matrix of each token, from a map of all its streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.kernels.precision import wide
from addnorm.kernels.streams import read_streams, write_streams
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection
from addnorm.schemes._streams import project_streams, tokens_first

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class MixingForm:
    """The shape of the coefficients, and what in them is not learned.

    Args:
        streams: n.
        mixing: how many logits make the matrix `H_res`.
        home: the stream that the site reads most at first.
        eps: added to the mean square of a token's streams.
        floor: added to every weight of the read.
    """

    streams: int
    mixing: int
    home: int
    eps: float
    floor: float = 0.0


class Coefficients(nn.Module, ABC):
    """`H_pre = sigmoid(.) + floor`, `H_post = 2 sigmoid(.)` and `H_res` of each token; `.` is `a phi x~ + b`.

    `x~ = RMSNorm(vec(X))`. The rows of `phi` and `bias` are n for `H_pre`, n for `H_post`, and those for `H_res`;
    each of the three has a factor `a`.
    """

    def __init__(self, d_model: int, form: MixingForm) -> None:
        super().__init__()
        self.form, self.eps = form, form.eps
        rows = 2 * form.streams + form.mixing
        self.phi = nn.Parameter(torch.empty(rows, form.streams * d_model))
        self.alpha = nn.Parameter(torch.empty(3))
        self.bias = nn.Parameter(torch.empty(rows))

    @abstractmethod
    def matrix(self, logits: Float[Tensor, "mixing all_tokens"]) -> Float[Tensor, "n n all_tokens"]:
        """`H_res`; row i makes the new stream i."""

    def forward(
        self, streams: Float[Tensor, "*tokens n d_model"]
    ) -> tuple[Float[Tensor, "*tokens n"], Float[Tensor, "*tokens n n_plus_1"]]:
        """`H_pre`, and for the write `[H_res | H_post^T]`; in float32, autocast or not."""
        parts = project_streams(streams, self.phi, self.eps), wide(self.bias)[:, None]
        sizes = [self.form.streams, self.form.streams, self.form.mixing]
        projected, bias = (part.split(sizes) for part in parts)
        pre, post, res = (a * x + b for a, x, b in zip(wide(self.alpha), projected, bias, strict=True))
        weights = torch.cat((self.matrix(res), 2 * torch.sigmoid(post).unsqueeze(1)), dim=1)
        pre = torch.sigmoid(pre) + self.form.floor
        return tokens_first(pre, streams), tokens_first(weights, streams).contiguous()


class Unmixed(NamedTuple):
    """The streams, and the matrices `[H_res | H_post^T]` that mix them and give them the update."""

    streams: Float[Tensor, "*tokens n d_model"]
    weights: Float[Tensor, "*tokens n n_plus_1"]


class MixingConnection(Connection):
    """`H_res X + H_post^T F(n(H_pre X))`."""

    def __init__(self, d_model: int, norm: NormKind, coefficients: Coefficients) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model)
        self.coefficients = coefficients

    def read(self, state: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Unmixed]:
        """`n(H_pre X)`; the skip is the streams and the matrices `[H_res | H_post^T]` of the write."""
        pre, weights = self.coefficients(state)
        return self.norm(read_streams(state, pre)), Unmixed(state, weights)

    def write(self, skip: Unmixed, update: Tensor) -> Tensor:
        """`H_res X + H_post^T y`."""
        streams, weights = skip
        return write_streams(streams, update, weights)


@torch.no_grad()
def favour_home_(coefficients: Coefficients, alpha: float) -> None:
    """The start of mHC-lite and KromHC: `phi = 0`; logits of read and write 1 at the home stream, -1 elsewhere."""
    n, home = coefficients.form.streams, coefficients.form.home
    coefficients.alpha.fill_(alpha)
    coefficients.phi.zero_()
    coefficients.bias.fill_(-1.0)
    coefficients.bias[home] = coefficients.bias[n + home] = 1.0


IDENTITY_LOGIT = -8.0  # of every permutation but the identity, whose logit is 0: the matrix starts within 1 % of it
