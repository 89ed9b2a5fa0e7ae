"""Rotary positions: the pairs of a head's features turned by an angle each."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import Grads, once

if TYPE_CHECKING:
    from jaxtyping import Float

_ADDRESS = ctypes.c_void_p
_SIGNATURE = (_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, ctypes.c_double, _ADDRESS, ctypes.c_int)


def turned(
    x: Float[Tensor, "batch heads tokens d_head"], angles: Float[Tensor, "*batch tokens half_d_head"]
) -> Float[Tensor, "batch heads tokens d_head"]:
    """`(x_i cos a_i - x_{i+d/2} sin a_i, x_{i+d/2} cos a_i + x_i sin a_i)`.

    Su et al. 2021, arXiv:2104.09864; halves are paired as in GPT-NeoX and Llama. No gradient reaches the angles, and
    the vectors are not kept for backward.

    Args:
        x: queries or keys.
        angles: one a token and pair, for each row of the batch or for all; in float32 (float64 for float64).
    """
    if not _fits(x, angles):
        return turned_reference(x, angles)
    return _Turned.apply(x, angles.cos(), angles.sin())


def turned_reference(x: Tensor, angles: Tensor) -> Tensor:
    """The same by torch's operations."""
    if angles.dim() == 3:
        angles = angles[:, None]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    # Rolling by half a head puts each feature's partner in its place: a third less time than splitting and joining.
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def _fits(x: Tensor, angles: Tensor) -> bool:
    if not native.takes(x) or not native.has_address(angles) or angles.requires_grad or x.dim() != 4 or not x.numel():
        return False
    _, _, tokens, width = x.shape
    rows = angles.dim() == 2 or (angles.dim() == 3 and len(angles) == len(x))
    return (
        rows
        and angles.shape[-2:] == (tokens, width // 2)
        and x.stride(-1) == 1
        and angles.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
        and native.library("rotary") is not None
    )


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """By the angles, or back; laid out in memory as the input is."""
    if x.stride(-1) != 1:
        x = x.contiguous()
    result, rows = torch.empty_like(x), 0 if cos.dim() == 2 else cos.shape[-1] * cos.shape[-2]
    if result.stride(-1) != 1:
        result = x.new_empty(x.shape)
    batch, heads, tokens, width = x.shape
    sizes = (ctypes.c_int64 * 11)(batch, heads, tokens, width // 2, *x.stride()[:3], *result.stride()[:3], rows)
    run = native.function("rotary", "turn", x.dtype, _SIGNATURE)
    cos, sin = cos.contiguous(), sin.contiguous()
    *given, of_result = native.addresses(x, cos, sin, result, strided=True)
    run(*given, ctypes.addressof(sizes), sign, of_result, torch.get_num_threads())
    return result


def _graph(ctx: Any, grad: Tensor) -> Grads:
    cos, sin = ctx.saved_tensors
    return _Turned.apply(grad.to(ctx.dtype), cos, -sin), None, None


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = x.dtype
        return _turn(x, cos, sin, 1.0)

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        """A turn's transpose is the turn back."""
        cos, sin = ctx.saved_tensors
        return _turn(grad_outputs[0].to(ctx.dtype), cos, sin, -1.0), None, None
