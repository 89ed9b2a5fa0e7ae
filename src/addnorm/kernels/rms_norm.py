"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.add_norm import add_norm_fused, fits
from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.kernels.precision import dot, wide
from addnorm.kernels.rebuild import rebuildable

if TYPE_CHECKING:
    from jaxtyping import Float


def rms_norm(
    x: Float[Tensor, "*tokens d_model"], weight: Float[Tensor, "d_model"], eps: float
) -> Float[Tensor, "*tokens d_model"]:
    """Each token divided by its root mean square: `x / sqrt(mean(x^2) + eps) * weight`.

    Computed in float32 for lower precisions; the result has the input's precision.

    Args:
        x: the vectors.
        weight: the gain.
        eps: added to the mean square.
    """
    if is_traced():
        return _forward(x, weight, eps)[0]
    if fits(x, None, weight):
        return add_norm_fused(x, None, weight, None, NormOfSum(eps=eps, centred=False))[1]
    return rebuildable(_RMSNorm.apply(x, weight, eps), _norm_again, x, weight, eps)


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same, as the formula reads."""
    normed = wide(x) / (wide(x).square().mean(-1, keepdim=True) + eps).sqrt()
    return (normed * weight).to(x.dtype)


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The result, and the inverse of each token's root mean square."""
    long = wide(x)
    inverse = (dot(long, long).unsqueeze(-1) / x.shape[-1] + eps).rsqrt()
    return (long * inverse * weight).to(x.dtype), inverse


def _norm_again(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return _forward(x, weight, eps)[0]


def _graph(ctx: Any, grad: Tensor) -> Grads:
    x, weight, _ = ctx.saved_tensors
    return *gradients(lambda x, weight: _forward(x, weight, ctx.eps)[0], [x, weight], [grad]), None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _forward(x, weight, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, inverse)
        return normed

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        """With `r = 1 / rms`: `dx = g w r - x r^3 mean(g w x)` and `dw = sum over tokens of g x r`."""
        x, weight, inverse = ctx.saved_tensors
        long, grad = wide(x), wide(grad_outputs[0])
        scaled = grad * weight
        mean = dot(scaled, long).unsqueeze(-1) / x.shape[-1]
        grad_x = scaled.mul_(inverse).addcmul_(long, mean * inverse**3, value=-1)
        grad_weight = (grad * long).mul_(inverse).reshape(-1, x.shape[-1]).sum(0)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None
