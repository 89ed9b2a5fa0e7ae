"""A linear map of the RMS-normalised input, with the division after the projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.precision import inverse_rms, uncast, wide

if TYPE_CHECKING:
    from jaxtyping import Float


def normed_projection(
    x: Float[Tensor, "tokens features"], weight: Float[Tensor, "outputs features"], eps: float
) -> Float[Tensor, "outputs tokens"]:
    """The outputs of a linear map of the normalised input, the tokens last: `W x / sqrt(mean(x^2) + eps)`.

    The division follows the projection, as in section 4.3.1 of Xie et al. 2025, arXiv:2512.24880: it then touches
    `outputs` numbers a token instead of `features`. Computed in float32 (float64 for float64), autocast or not.

    Args:
        x: one row a token.
        weight: the map.
        eps: added to the mean square.
    """
    if is_traced():
        return projection_forward(x, weight, eps)[0]
    return _NormedProjection.apply(x, weight, eps)


def normed_projection_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same, normalised first, as the formula reads."""
    with uncast(x):
        long = wide(x)
        normed = long * torch.rsqrt(long.square().mean(-1, keepdim=True) + eps)
        return wide(weight) @ normed.mT


def projection_forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The result, and `r`, the inverse of each token's root mean square."""
    long = wide(x)
    inverse = inverse_rms(long, eps)
    with uncast(x):
        return torch.mm(wide(weight), long.t()) * inverse, inverse


def projection_backward(
    x: Tensor, weight: Tensor, projected: Tensor, inverse: Tensor, grad: Tensor, onto: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """In float32, with `p = W x r`: `dx = (g r) W - x r^2 mean(g p)`, added to `onto` in place; `dW = (g r) x^T`."""
    long = wide(x)
    along = ((grad * projected).sum(0) * inverse * inverse).unsqueeze(-1)
    grad = grad * inverse
    grad_x = torch.zeros_like(long) if onto is None else onto
    grad_x.addcmul_(long, along, value=-1 / x.shape[-1])
    with uncast(x):
        return grad_x.addmm_(grad.t(), wide(weight)), torch.mm(grad, long)


def _graph(ctx: Any, grad: Tensor) -> Grads:
    x, weight, *_ = ctx.saved_tensors
    return *gradients(lambda x, weight: projection_forward(x, weight, ctx.eps)[0], [x, weight], [grad]), None


class _NormedProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        projected, inverse = projection_forward(x, weight, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, projected, inverse)
        return projected

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        x, weight, projected, inverse = ctx.saved_tensors
        grad_x, grad_weight = projection_backward(x, weight, projected, inverse, grad_outputs[0].contiguous())
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None
