"""Arithmetic in the precision that coefficients need, autocast or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def wide(x: Tensor) -> Tensor:
    """The same numbers in float32; float64 stays."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def uncast(x: Tensor) -> AbstractContextManager[object]:
    """Autocast switched off for the device of `x`."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def centred(x: Float[Tensor, "*shape features"]) -> Float[Tensor, "*shape features"]:
    """The numbers less their mean along the last dimension, counted from the first of them.

    A row far from zero loses nothing to the rounding of its mean, and one of equal numbers is exactly zero. The first
    has no gradient of its own: what it adds, the mean takes away.
    """
    near = x - x[..., :1].detach()
    return near - near.mean(-1, keepdim=True)


def dot(x: Float[Tensor, "*shape features"], y: Float[Tensor, "*shape features"]) -> Float[Tensor, "*shape"]:
    """The scalar products along the last dimension, in the precision of the operands."""
    with uncast(x):
        return torch.linalg.vecdot(x, y)


def inverse_rms(x: Float[Tensor, "*shape features"], eps: float) -> Float[Tensor, "*shape"]:
    """`1 / sqrt(mean(x^2) + eps)` along the last dimension.

    From the length, which reads `x` once and writes nothing of its size. Numbers go in as arguments of `addcmul`: a
    Python number in `x * 2` is first made a tensor, and cast, which takes longer than 512 products.
    """
    with uncast(x):
        length = torch.linalg.vector_norm(x, dim=-1)
    return torch.addcmul(length.new_full((), eps), length, length, value=1 / x.shape[-1]).rsqrt()
