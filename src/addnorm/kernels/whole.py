"""Whole sublayers in one call: what the kernels for small nets share.

In a net of width 32 a call of torch takes longer than what it computes. Here a sublayer is one call, and its backward
another; what it multiplies lies in the first caches.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from addnorm.kernels import native

WIDEST = 128
"""The widest vectors: beyond, the products of torch's libraries, which block for the caches, are as fast or faster."""
FEWEST = 16
"""Tokens: packing the weights costs as much as multiplying a few vectors by them."""
PRECISIONS = (torch.float32, torch.float64)
POINTER = (ctypes.c_void_p,)
"""What such a kernel takes: a structure."""


def structure(numbers: str, *addresses: str) -> type[ctypes.Structure]:
    """A C structure: whole numbers, then addresses."""
    kinds = [(name, ctypes.c_int64) for name in numbers.split()]
    kinds += [(name, ctypes.c_void_p) for names in addresses for name in names.split()]
    return type("Call", (ctypes.Structure,), {"_fields_": kinds})


def is_small(x: Tensor, *widths: int) -> bool:
    """Whether vectors of the first width, in products with the others, are those of a small net.

    Under autocast nothing is: it asks for products of another precision.
    """
    width = x.shape[-1]
    return (
        width <= WIDEST
        and x.dtype in PRECISIONS
        and x.numel() >= FEWEST * width
        and widths[0] == width
        and max(widths) <= 4 * WIDEST
        and not torch.is_autocast_enabled("cpu")
    )


def call(
    run: Callable[..., None],
    arguments: type[ctypes.Structure],
    sizes: Sequence[int],
    given: Sequence[Tensor | None],
    room: Sequence[Tensor | None],
) -> None:
    """Call a kernel; tensors are handed over by their addresses, None as null.

    Args:
        run: the kernel.
        arguments: its structure.
        sizes: the structure's numbers, but for the last, which is that of threads.
        given: what it reads, in the structure's order; contiguous.
        room: what it writes, after these; just made.
    """
    run(ctypes.byref(arguments(*sizes, torch.get_num_threads(), *native.addresses(*given, fresh=room))))


def lies_in_order(*tensors: Tensor | None) -> bool:
    """Whether a kernel can read these as they are: of one precision, each contiguous in the CPU's memory."""
    dtype = None
    for one in tensors:
        if one is None:
            continue
        dtype = dtype or one.dtype
        if one.dtype != dtype or not one.is_contiguous():
            return False
    return native.has_address(*tensors)
