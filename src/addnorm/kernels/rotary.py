"""Rotary positions: the pairs of a head's features turned by an angle each."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
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
    angles: Float[Tensor, "*batch tokens half_d_head"], *vectors: Float[Tensor, "batch heads tokens d_head"]
) -> tuple[Float[Tensor, "batch heads tokens d_head"], ...]:
    """`(x_i cos a_i - x_{i+d/2} sin a_i, x_{i+d/2} cos a_i + x_i sin a_i)` of each.

    Su et al. 2021, arXiv:2104.09864; halves are paired as in GPT-NeoX and Llama. No gradient reaches the angles, and
    the vectors are not kept for backward.

    Args:
        angles: one a token and pair, for each row of the batch or for all; in float32 (float64 for float64).
        vectors: queries and keys.
    """
    if not _fit(angles, vectors):
        return tuple(turned_reference(angles, x) for x in vectors)
    return _Turned.apply(angles.cos(), angles.sin(), *vectors)


def turned_reference(angles: Tensor, x: Tensor) -> Tensor:
    """The same by torch's operations."""
    if angles.dim() == 3:
        angles = angles[:, None]
    return turned_by(angles.cos().to(x.dtype), angles.sin().to(x.dtype), x)


def turned_by(
    cos: Float[Tensor, "*batch tokens half_d_head"], sin: Tensor, x: Float[Tensor, "batch heads tokens d_head"]
) -> Float[Tensor, "batch heads tokens d_head"]:
    """The same of angles whose cosines and sines are known, by torch's operations."""
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    # Rolling by half a head puts each feature's partner in its place: a third less time than splitting and joining.
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def _fit(angles: Tensor, vectors: Sequence[Tensor]) -> bool:
    if not native.takes(*vectors) or not native.has_address(angles) or native.library("rotary") is None:
        return False
    for x in vectors:
        if x.dim() != 4 or x.numel() == 0 or x.stride(-1) != 1 or angles.shape[-2:] != (x.shape[2], x.shape[3] // 2):
            return False
        if angles.dim() != 2 and (angles.dim() != 3 or len(angles) != len(x)):
            return False
    long = torch.float64 if vectors[0].dtype == torch.float64 else torch.float32
    return angles.dtype == long and not angles.requires_grad


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
    run(*given, sizes, sign, of_result, torch.get_num_threads())
    return result


def _graph(ctx: Any, *grads: Tensor | None) -> Grads:
    cos, sin = ctx.saved_tensors
    came = [grad.to(ctx.dtype) for grad in grads if grad is not None]
    found = iter(_Turned.apply(cos, -sin, *came))
    return None, None, *(None if grad is None else next(found) for grad in grads)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cos: Tensor, sin: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        ctx.set_materialize_grads(False)
        ctx.dtype = vectors[0].dtype
        return tuple([_turn(x, cos, sin, 1.0) for x in vectors])

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Grads:  # pyrefly: ignore[bad-override]
        """A turn's transpose is the turn back."""
        cos, sin = ctx.saved_tensors
        return (
            None,
            None,
            *(None if grad is None else _turn(grad.to(ctx.dtype), cos, sin, -1.0) for grad in grad_outputs),
        )
