"""The box "Add & Norm": an update added to a stream, and the norm of the sum, in one pass over memory."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import Grads, gradients, once, zeros_like_gradient
from addnorm.kernels.gpu import choice
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.kernels.precision import centred, wide
from addnorm.kernels.rebuild import rebuildable

if TYPE_CHECKING:
    from jaxtyping import Float

_ADDRESS, _COUNT, _REAL, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
_FORWARD = (*[_ADDRESS] * 4, _REAL, _REAL, _COUNT, _COUNT, _INT, *[_ADDRESS] * 4, _INT)
_BACKWARD = (*[_ADDRESS] * 4, _COUNT, _COUNT, _INT, *[_ADDRESS] * 4, _INT)


def add_norm(
    stream: Float[Tensor, "*tokens d_model"],
    update: Float[Tensor, "*tokens d_model"] | None,
    weight: Float[Tensor, "d_model"],
    bias: Float[Tensor, "d_model"] | None,
    kind: NormOfSum,
) -> tuple[Float[Tensor, "*tokens d_model"], Float[Tensor, "*tokens d_model"]]:
    """The sum `s = alpha x + y`, and its norm: `(s - mean) / sqrt(var + eps) w + b`, or `s / sqrt(mean(s^2) + eps) w`.

    LayerNorm: Ba et al. 2016, arXiv:1607.06450; RMSNorm: Zhang and Sennrich 2019, arXiv:1910.07467. Added up in float32
    (float64 for float64). The norm is of the sum as it is stored, rounded to the stream's precision. Backward keeps the
    sum and one or two numbers a token.

    Args:
        stream: `x`.
        update: `y`; None for the norm of the stream alone.
        weight, bias: `w` and `b`; None for no bias.
        kind: which norm.

    Returns:
        The sum (the stream itself without an update), and its norm in the stream's precision.
    """
    if not fits(stream, update, weight, bias):
        return add_norm_reference(stream, update, weight, bias, kind)
    return add_norm_fused(stream, update, weight, bias, kind)


def add_norm_fused(
    stream: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, kind: NormOfSum
) -> tuple[Tensor, Tensor]:
    """The same by a kernel, of what `fits`."""
    total, normed = _AddNorm.apply(stream, update, weight, bias, kind)
    total = stream if update is None else total
    return total, rebuildable(normed, _norm_again, total, weight, bias, kind)


def add_norm_reference(
    stream: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, kind: NormOfSum
) -> tuple[Tensor, Tensor]:
    """The same, as the formula reads."""
    total = stream if update is None else kind.alpha * stream + update
    long = wide(total)
    if kind.centred:
        long = centred(long)
    normed = long * (long.square().mean(-1, keepdim=True) + kind.eps).rsqrt() * weight
    return total, (normed if bias is None else normed + bias).to(total.dtype)


def fits(stream: Tensor, update: Tensor | None, *learned: Tensor | None) -> bool:
    """Whether there is a C++ kernel for these, or on a GPU a Triton kernel; `learned` are weights and biases."""
    by_gpu = choice.takes(stream)
    if not by_gpu and (not native.takes(stream) or native.library("add_norm") is None):
        return False
    for one in learned:
        if one is not None and one.shape != stream.shape[-1:]:
            return False
    if stream.numel() == 0 or (update is not None and not update_fits(stream, update)):
        return False
    if by_gpu:
        return stream.shape[-1] <= choice.WIDEST and choice.takes(stream, *learned)
    return native.has_address(*learned)


def update_fits(stream: Tensor, update: Tensor) -> bool:
    """Whether the kernel that takes the stream takes this update with it."""
    if update.shape != stream.shape:
        return False
    if stream.device.type == choice.DEVICE and stream.dtype in choice.PRECISIONS:
        return choice.takes(stream, update)
    narrow = stream.dtype == torch.float32 and update.dtype == torch.bfloat16
    return (narrow or update.dtype == stream.dtype) and native.has_address(update)


def _forward(
    stream: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, kind: NormOfSum
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum, norm; and for backward each token's mean, counted from its first number, and inverse deviation."""
    x, y = stream.contiguous(), None if update is None else update.contiguous()
    d, long = x.shape[-1], torch.float64 if x.dtype == torch.float64 else torch.float32
    tokens, weight = x.numel() // d, weight.to(long).contiguous()
    bias = None if bias is None else bias.to(long).contiguous()
    total, normed = x if y is None else torch.empty_like(x), torch.empty_like(x)
    mean, inverse = weight.new_empty(2, tokens)
    if x.device.type == choice.DEVICE and choice.takes(x):
        from addnorm.kernels.gpu import add_norm_launch as gpu

        gpu.forward(x, y, (weight, bias), kind, (total, normed, mean, inverse))
        return total, normed, mean, inverse
    run = native.function("add_norm", "add_norm_forward", x.dtype, _FORWARD)
    if y is not None and y.dtype != x.dtype:
        run = native.function("add_norm", "add_norm_forward_float", y.dtype, _FORWARD)
    given = native.addresses(x, y, weight, bias, total, normed, mean, inverse)
    run(*given[:4], kind.eps, kind.alpha, tokens, d, kind.centred, *given[4:], torch.get_num_threads())
    return total, normed, mean, inverse


def _norm_again(total: Tensor, weight: Tensor, bias: Tensor | None, kind: NormOfSum) -> Tensor:
    return _forward(total, None, weight, bias, kind)[1]


def _graph(ctx: Any, grad_total: Tensor | None, grad: Tensor | None) -> Grads:
    total, weight, *_ = ctx.saved_tensors
    (update_type, bias_type), kind = ctx.types, ctx.kind
    bias = None if bias_type is None else zeros_like_gradient(weight.to(bias_type))

    def norm(total: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return add_norm_reference(total, None, weight, bias, kind)[1]

    found, of_weight, of_bias = gradients(norm, [total, weight, bias], [grad])
    parts = [one for one in (found, grad_total) if one is not None]
    of_sum = sum(parts[1:], parts[0]) if parts else None
    of_stream = of_sum if update_type is None else _scaled(of_sum, kind)
    return of_stream, _as(of_sum, update_type), of_weight, of_bias, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, stream: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, kind: NormOfSum
    ) -> tuple[Tensor, Tensor]:
        total, normed, mean, inverse = _forward(stream, update, weight, bias, kind)
        ctx.kind, ctx.types = kind, (None if update is None else update.dtype, None if bias is None else bias.dtype)
        # Without an update the sum may be a copy of the stream in another order of memory, which is not in the graph.
        ctx.save_for_backward(stream if update is None else total, weight, mean, inverse)
        ctx.set_materialize_grads(False)
        if update is None:
            total = stream.new_empty(0)
            ctx.mark_non_differentiable(total)
        return total, normed

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Grads:  # pyrefly: ignore[bad-override]
        """With `z` the normalised and `r` the inverse deviation: `dx = r (g w - mean(g w) - z mean(g w z)) + ds`."""
        total, weight, mean, inverse = ctx.saved_tensors
        total, (grad_total, grad) = total.contiguous(), grad_outputs
        (update_type, bias_type), kind = ctx.types, ctx.kind
        if grad is None:  # nobody read the norm
            return _scaled(grad_total, kind), _as(grad_total, update_type), None, None, None
        grad, sums = _backward(total, weight, (mean, inverse), (grad, grad_total), kind)
        of_bias = None if bias_type is None else sums[1].to(bias_type)
        of_stream = grad if update_type is None else _scaled(grad, kind)
        return of_stream, _as(grad, update_type), sums[0].to(weight.dtype), of_bias, None


def _scaled(grad: Tensor | None, kind: NormOfSum) -> Tensor | None:
    return grad if grad is None or kind.alpha == 1 else grad * kind.alpha


def _as(grad: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if grad is None or dtype is None else grad.to(dtype)


def _backward(
    total: Tensor, weight: Tensor, numbers: tuple[Tensor, Tensor], grads: tuple[Tensor, Tensor | None], kind: NormOfSum
) -> tuple[Tensor, Tensor]:
    """The gradient of the sum; and those of the weight and the bias, one row each."""
    of_norm, of_sum = (None if grad is None else grad.to(total.dtype).contiguous() for grad in grads)
    weight = weight.to(numbers[0].dtype).contiguous()
    if choice.takes(total):
        from addnorm.kernels.gpu import add_norm_launch as gpu

        assert of_norm is not None
        return gpu.backward(total, weight, numbers, (of_norm, of_sum), kind)
    threads, d = torch.get_num_threads(), total.shape[-1]
    partials, found = weight.new_zeros(threads, 2, d), torch.empty_like(total)
    run = native.function("add_norm", "add_norm_backward", total.dtype, _BACKWARD)
    given = native.addresses(total, of_norm, of_sum, weight, *numbers, found, partials)
    run(*given[:4], total.numel() // d, d, kind.centred, *given[4:], threads)
    return found, partials.sum(0)
