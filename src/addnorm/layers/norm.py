"""Normalisation layers: LayerNorm, RMSNorm, BatchNorm over tokens, tanh and erf in place of one, none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.errors import UserError, unknown
from addnorm.kernels.add_norm import Kind, add_norm, fits
from addnorm.kernels.precision import wide
from addnorm.kernels.rebuild import rebuildable
from addnorm.kernels.rms_norm import rms_norm
from addnorm.layers.saturation import Derf, DynamicTanh
from addnorm.layers.watched import is_only

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

NormKind = Literal["layer", "rms", "batch", "tanh", "erf", "none"]
NORMS: tuple[str, ...] = get_args(NormKind)
EPS = 1e-5
"""What norms add to a mean square or a variance, where a scheme says nothing else."""
FEW = 4
"""Tokens up to which a pass over memory is nothing beside the call."""


class _Padding(threading.local):
    """One thread's padding; not a context variable, because the compiler cannot trace those."""

    keep: Tensor | None = None
    again: bool = False


_PADDING = _Padding()


@contextmanager
def padding(keep: Bool[Tensor, "batch tokens"] | None, *, again: bool = False) -> Iterator[None]:
    """Within it, norms that take statistics over tokens leave out the tokens where `keep` is False.

    Args:
        keep: which tokens are real (True); None = all.
        again: this forward repeats one for its gradients, so running statistics have seen its batch already.
    """
    outer = _PADDING.keep, _PADDING.again
    _PADDING.keep, _PADDING.again = keep, again
    try:
        yield
    finally:
        _PADDING.keep, _PADDING.again = outer


def current_padding() -> Bool[Tensor, "batch tokens"] | None:
    """The mask of the real tokens of this forward, or None when all are real."""
    return _PADDING.keep


class LayerNorm(nn.LayerNorm):
    """Layer normalisation: `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, Ba et al. 2016, arXiv:1607.06450."""

    def forward(self, input: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """Each token less its mean and divided by its deviation."""
        if _is_decoding(input):
            return super().forward(input)
        if _is_fused(self, input, None):
            return add_norm(input, None, self.weight, self.bias, Kind(eps=self.eps, centred=True))[1]
        kept = input.detach()
        return rebuildable(self._eager(input), lambda: self._eager(kept))

    def _eager(self, x: Tensor) -> Tensor:
        """By torch's operation, in float32 for lower precisions.

        On a CPU its backward adds the gradients of gain and shift up in the input's own precision, whatever theirs: in
        bfloat16 a sum of ones stops at 256.
        """
        if x.device.type != "cpu" or x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        bias = None if self.bias is None else wide(self.bias)
        return F.layer_norm(wide(x), self.normalized_shape, wide(self.weight), bias, self.eps).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation: `x / sqrt(mean(x^2) + eps) * weight`, Zhang and Sennrich 2019, arXiv:1910.07467.

    Computed in float32 for lower precisions.

    Args:
        d_model: the width.
        eps: added to the mean square.
    """

    def __init__(self, d_model: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def reset_parameters(self) -> None:
        """Gain one."""
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """Each token divided by its root mean square."""
        return rms_norm(x, self.weight, self.eps)


class BatchNorm(nn.Module):
    """Batch normalisation over tokens: each feature by its mean and variance over all real tokens of the batch.

    `(x - mean_tokens(x)) / sqrt(var_tokens(x) + eps) * weight + bias`; running statistics in evaluation. Padded tokens
    (see `padding`) have no part in the statistics. In training it mixes tokens, so it is not causal.
    Ioffe and Szegedy 2015, arXiv:1502.03167; over tokens as in Shen et al. 2020, arXiv:2003.07845.

    Args:
        d_model: the width.
        eps: added to the variance.
        momentum: the share of the newest batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, d_model: int, eps: float = EPS, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("running_mean", torch.zeros(d_model))
        self.register_buffer("running_var", torch.ones(d_model))

    def reset_parameters(self) -> None:
        """Gain one, bias zero, running statistics of a standard normal."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_var.fill_(1.0)

    def forward(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """Each feature normalised over the real tokens."""
        keep = current_padding()
        if keep is None or not self.training:
            flat = x.reshape(-1, x.shape[-1])
            return self._normalise(flat).view_as(x)
        normed = torch.zeros_like(x)
        normed[keep] = self._normalise(x[keep]).to(x.dtype)
        return normed

    def _normalise(self, tokens: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens d_model"]:
        if self.training and len(tokens) < 2:
            raise UserError(f"batch norm saw {len(tokens)} real token in training; give it 2 or more, or another norm.")
        mean, variance = self.running_mean, self.running_var
        if _PADDING.again:
            mean, variance = mean.clone(), variance.clone()
        return F.batch_norm(tokens, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)


def add_and_norm(
    norm: nn.Module,
    stream: Float[Tensor, "*tokens d_model"],
    update: Float[Tensor, "*tokens d_model"],
    alpha: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The sum `alpha x + y` and the norm of it, in one pass over memory where there is one for them.

    Args:
        norm: a layer of this module.
        stream, update: `x` and `y`.
        alpha: a factor of the stream.
    """
    if not _is_decoding(stream) and is_plain(norm):
        bias = getattr(norm, "bias", None)
        if fits(stream, update, norm.weight, bias):
            kind = Kind(eps=norm.eps, centred=isinstance(norm, LayerNorm), alpha=alpha)
            return add_norm(stream, update, norm.weight, bias, kind)
    total = stream + update if alpha == 1 else alpha * stream + update
    return total, norm(total)


def _is_fused(norm: LayerNorm | RMSNorm, stream: Tensor, update: Tensor | None) -> bool:
    """Whether `add_norm` computes what the layer would: under a GPU's autocast, LayerNorm's result is float32."""
    if not fits(stream, update, norm.weight, getattr(norm, "bias", None)):
        return False
    cast = stream.device.type != "cpu" and torch.is_autocast_enabled(stream.device.type)
    return not cast or stream.dtype != torch.bfloat16 or isinstance(norm, RMSNorm)


def _is_decoding(x: Tensor) -> bool:
    """Whether a few tokens come without a gradient: what counts then is how much code a call runs through."""
    return not torch.is_grad_enabled() and x.numel() <= FEW * x.shape[-1]


def is_plain(norm: nn.Module) -> TypeGuard[LayerNorm | RMSNorm]:
    """Whether its call does no more than a formula that kernels know: LayerNorm's or RMSNorm's, and nobody watches."""
    return is_only(norm, LayerNorm, RMSNorm)


def make_norm(kind: NormKind, d_model: int, eps: float = EPS) -> nn.Module:
    """A norm of one of the kinds in `NORMS`; `eps` is for those that divide by a statistic.

    Raises:
        UserError: the kind is unknown.
    """
    makers = {
        "layer": lambda width: LayerNorm(width, eps),
        "rms": lambda width: RMSNorm(width, eps),
        "batch": lambda width: BatchNorm(width, eps),
        "tanh": DynamicTanh,
        "erf": Derf,
        "none": lambda _: nn.Identity(),
    }
    if kind not in makers:
        raise unknown("norm", kind, NORMS)
    return makers[kind](d_model)
