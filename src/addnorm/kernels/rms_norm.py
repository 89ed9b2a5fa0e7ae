"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from addnorm.kernels.add_norm import Kind, add_norm, fits
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
    if torch.compiler.is_compiling():
        return _forward(x, weight, eps)[0]
    if fits(x, None):
        return add_norm(x, None, weight, None, Kind(eps=eps, centred=False))[1]
    kept = x.detach()
    return rebuildable(_RMSNorm.apply(x, weight, eps), lambda: _forward(kept, weight, eps)[0])


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same, as the formula reads."""
    normed = wide(x) / (wide(x).square().mean(-1, keepdim=True) + eps).sqrt()
    return (normed * weight).to(x.dtype)


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The result, and the inverse of each token's root mean square."""
    long = wide(x)
    inverse = (dot(long, long).unsqueeze(-1) / x.shape[-1] + eps).rsqrt()
    return (long * inverse * weight).to(x.dtype), inverse


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _forward(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:  # pyrefly: ignore[bad-override]
        """With `r = 1 / rms`: `dx = g w r - x r^3 mean(g w x)` and `dw = sum over tokens of g x r`."""
        x, weight, inverse = ctx.saved_tensors
        long, grad = wide(x), wide(grad_outputs[0])
        scaled = grad * weight
        mean = dot(scaled, long).unsqueeze(-1) / x.shape[-1]
        grad_x = scaled.mul_(inverse).addcmul_(long, mean * inverse**3, value=-1)
        grad_weight = (grad * long).mul_(inverse).reshape(-1, x.shape[-1]).sum(0)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None
