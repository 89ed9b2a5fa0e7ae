"""Normalisation layers of each token alone, and the choice among all kinds by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.errors import unknown
from addnorm.kernels.add_norm import add_norm_fused, fits
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.kernels.precision import wide
from addnorm.kernels.rebuild import rebuildable
from addnorm.kernels.rms_norm import rms_norm
from addnorm.layers.batch_norm import BatchNorm
from addnorm.layers.saturation import Derf, DynamicTanh
from addnorm.layers.watched import is_only

if TYPE_CHECKING:
    from jaxtyping import Float

NormKind = Literal["layer", "rms", "batch", "tanh", "erf", "none"]
NORMS: tuple[str, ...] = get_args(NormKind)
EPS = 1e-5
"""What norms add to a mean square or a variance, where a scheme says nothing else."""
FEW = 4
"""Tokens up to which a pass over memory is nothing beside the call."""


class LayerNorm(nn.LayerNorm):
    """Layer normalisation: `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, Ba et al. 2016, arXiv:1607.06450."""

    def forward(self, input: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """Each token less its mean and divided by its deviation."""
        if is_few(input):
            return super().forward(input)
        # Under a GPU's autocast the result is float32, which the kernel's is not.
        if fits(input, None, self.weight, self.bias) and (input.is_cpu or not _is_cast(input)):
            return add_norm_fused(input, None, self.weight, self.bias, NormOfSum(eps=self.eps, centred=True))[1]
        return rebuildable(self._eager(input), self._eager, input)

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


def _is_cast(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and torch.is_autocast_enabled(x.device.type)


def is_few(x: Tensor) -> bool:
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
