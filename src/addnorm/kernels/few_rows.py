"""A linear map of a few rows, as decoding takes one a token: bound by reading the weights."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import native

if TYPE_CHECKING:
    from jaxtyping import Float

_ADDRESS, _COUNT = ctypes.c_void_p, ctypes.c_int64
_SIGNATURE = (_ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT, _ADDRESS, ctypes.c_int)


def few_rows(x: Float[Tensor, "*rows inputs"], weight: Tensor, bias: Tensor | None) -> Float[Tensor, "*rows outputs"]:
    """`x W^T + b` without a gradient; added up in float32 (float64 for float64) and rounded once.

    In bfloat16 a weight is widened as it is read, where torch's product for one row takes several times the reading.

    Args:
        x: the vectors, few: each is multiplied with the weights while those are in the first cache.
        weight, bias: of the map; None for no bias.
    """
    if not fits(x, weight, bias):
        return few_rows_reference(x, weight, bias)
    x, outputs = x.contiguous(), len(weight)
    y = x.new_empty(*x.shape[:-1], outputs)
    run = native.function("few_rows", "few_rows", x.dtype, _SIGNATURE)
    *given, result = native.addresses(x, weight, bias, y)
    run(*given, x.numel() // x.shape[-1], x.shape[-1], outputs, result, torch.get_num_threads())
    return y


def few_rows_reference(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by torch."""
    return F.linear(x, weight, bias)


def fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the C++ kernel can take these: no gradient is wanted, weights lie in order, all of one precision."""
    given = (x, weight) if bias is None else (x, weight, bias)
    if not native.takes(*given) or (torch.is_grad_enabled() and any(one.requires_grad for one in given)):
        return False
    if x.numel() == 0 or weight.shape != (len(weight), x.shape[-1]) or not weight.is_contiguous():
        return False
    return (bias is None or bias.is_contiguous()) and native.library("few_rows") is not None
