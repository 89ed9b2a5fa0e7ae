"""What the schemes of several streams share: the entrance, the ways out, the state's form.

The state is one contiguous tensor `[..., n, d_model]`; stream 0 comes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_count
from addnorm.errors import UserError, unknown
from addnorm.kernels.normed_projection import normed_projection
from addnorm.kernels.streams import mix_streams, read_streams
from addnorm.layers.norm import EPS, NormKind
from addnorm.residual import Exit, Scheme
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float

HEAD_EPS = 1e-5  # HY-V4's rms_norm_eps

Reduce = Literal["sum", "mean", "head"]
ReadFrom = Literal["home", "all"]


class Mixed(NamedTuple):
    """The streams as the skip leaves them, and how much of the update each is given."""

    streams: Float[Tensor, "*tokens n d_model"]
    gains: Float[Tensor, "*tokens n"]


@dataclass(frozen=True, kw_only=True)
class StreamScheme(Scheme):
    """A scheme that carries several streams.

    Args:
        streams: how many; at least 2.
        reduce: how the streams become one vector at the exit: their "sum" (with n^2 times the eps in the final norm),
            their "mean", or a "head" that weighs each token's streams by a sigmoid of a learned map of them.
    """

    streams: int = 4
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("streams", self.streams)
        check_at_least("streams", self.streams, 2)
        if self.reduce not in get_args(Reduce):
            raise unknown("reduce", str(self.reduce), get_args(Reduce))

    def entrance(self, d_model: int) -> nn.Module:
        """Every stream starts as the embedding."""
        return StreamEntrance(self.streams)

    def exit(self, d_model: int) -> Exit:
        """The streams reduced to one, then the final norm."""
        if self.reduce == "head":
            return HeadExit(d_model, self.norm, self.streams)
        return StreamsExit(d_model, self.norm, self.reduce, self.streams)

    def pre_norm_of_equal_streams(self) -> PreNorm | None:
        """Pre-LN, where a stack of equal streams ends in the same hidden vector as one stream."""
        removed = self.norm in (
            "layer",
            "rms",
        )  # the final norm removes the factor of a sum, and that of a head to 1e-6
        return PreNorm(norm=self.norm) if self.reduce == "mean" or removed else None


class StreamEntrance(nn.Module):
    """The embedding, `n` times: `X_i = x`."""

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.streams = streams

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens n d_model"]:
        """The first state."""
        return torch.stack([embedding] * self.streams, dim=-2)


class StreamsExit(Exit):
    """The sum or the mean of the streams, then the final norm.

    The norm takes the factor n of a sum of equal streams away; its eps is multiplied by n^2, so that nothing of it is
    left.
    """

    def __init__(self, d_model: int, norm: NormKind, reduce: Reduce, streams: int) -> None:
        super().__init__(d_model, norm, EPS * streams**2 if reduce == "sum" else EPS)
        self.reduce = reduce

    def collapse(self, state: Float[Tensor, "*tokens n d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """One vector a token, before the final norm."""
        return state.sum(-2) if self.reduce == "sum" else state.mean(-2)


class HeadExit(Exit):
    """The streams weighed by a gate: `sum_i (sigmoid(s W x~ + b)_i + 1e-6) X_i`, `x~ = RMSNorm(vec(X))`.

    The last reduction of DeepSeek-V4 and HY-V4. It starts as the mean, to the size of `s W`: `b = -ln(n - 1)`, `s =
    0.01`.
    """

    def __init__(self, d_model: int, norm: NormKind, streams: int, eps: float = HEAD_EPS) -> None:
        super().__init__(d_model, norm)
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(streams, streams * d_model))
        self.scale = nn.Parameter(torch.empty(()))
        self.bias = nn.Parameter(torch.empty(streams))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Nearly the mean."""
        self.weight.normal_(0.0, GATE_STD)
        self.scale.fill_(0.01)
        self.bias.fill_(mean_logit(len(self.bias)))

    def collapse(self, state: Float[Tensor, "*tokens n d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """One vector a token, before the final norm."""
        logits = project_streams(state, self.weight, self.eps)
        weights = torch.sigmoid(logits * self.scale + self.bias[:, None]) + GATE_FLOOR
        return read_streams(state, tokens_first(weights, state))


def check_read_from(read_from: str, projection_std: float) -> None:
    """Refuse an unknown choice, and the start from which equal streams could never part.

    Raises:
        UserError: `read_from` is unknown, or "all" together with a projection that starts at zero.
    """
    if read_from not in get_args(ReadFrom):
        raise unknown("read_from", str(read_from), get_args(ReadFrom))
    check_at_least("projection_std", projection_std, 0)
    if read_from == "all" and projection_std == 0:
        raise UserError(
            "read_from=all with projection_std=0 treats all streams alike, so that they stay equal for ever; "
            "use read_from=home, or a projection_std above 0 such as 0.02."
        )


def read_logits(streams: int, home: int, read_from: ReadFrom) -> Float[Tensor, "n"]:
    """Logits of a read whose weights sum to 1: the mean of all streams, or nearly the stream `home` alone.

    >>> read_logits(4, 1, "home").sigmoid()
    tensor([0.0158, 0.9526, 0.0158, 0.0158])
    """
    if read_from == "all":
        return torch.full((streams,), mean_logit(streams))
    share = 1 / (1 + math.exp(HOME_LOGIT))  # what is left for the other streams
    logits = torch.full((streams,), math.log(share / (streams - 1 - share)))
    logits[home] = HOME_LOGIT
    return logits


def one_hot_read(streams: int, home: int) -> Float[Tensor, "n n_plus_2"]:
    """Static coefficients `[A_m | A_r | B]` that read the stream `home`, mix nothing and write to all.

    >>> one_hot_read(2, 1)
    tensor([[0., 1., 0., 1.],
            [1., 0., 1., 1.]])
    """
    identity = torch.eye(streams)
    return torch.cat((identity[:, home : home + 1], identity, torch.ones(streams, 1)), dim=1)


def read_and_mix(
    streams: Float[Tensor, "*tokens n d_model"], coefficients: Float[Tensor, "*tokens n n_plus_1"]
) -> tuple[Float[Tensor, "*tokens d_model"], Float[Tensor, "*tokens n d_model"]]:
    """`A_m^T X` and `A_r^T X` from `[A_m | A_r]`, in one product."""
    read, mixed = mix_streams(streams, coefficients.mT).split([1, streams.shape[-2]], dim=-2)
    # Copied: whoever keeps the read for backward would keep the mixed streams in the same memory.
    return read.squeeze(-2).contiguous(), mixed


HOME_LOGIT = 3.0
GATE_STD = 0.006  # HY-V4's initializer_range
GATE_FLOOR = 1e-6  # HY-V4's and DeepSeek-V4's hc_eps: no stream is ever shut off


def mean_logit(streams: int) -> float:
    """The logit whose sigmoid is `1 / streams`.

    >>> round(1 / (1 + math.exp(-mean_logit(4))), 12)
    0.25
    """
    return -math.log(streams - 1)


def project_streams(
    state: Float[Tensor, "*tokens n d_model"], weight: Float[Tensor, "outputs n_d_model"], eps: float
) -> Float[Tensor, "outputs all_tokens"]:
    """A map of all streams of a token, normalised together: `W RMSNorm(vec(X))`; the tokens last, in one dimension."""
    return normed_projection(state.reshape(-1, weight.shape[1]), weight, eps)


def tokens_first(coefficients: Tensor, state: Float[Tensor, "*tokens n d_model"]) -> Tensor:
    """Coefficients with the tokens last, in the state's order: `[*tokens, ...]`."""
    return coefficients.movedim(-1, 0).reshape(*state.shape[:-2], *coefficients.shape[:-1])
