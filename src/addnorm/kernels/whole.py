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
from addnorm.kernels.derivatives import is_traced
from addnorm.kernels.native import library

WIDEST = 128
"""The widest vectors: torch's libraries block for the caches, and beyond little was gained over their products."""
FEWEST = 16
"""Tokens: packing the weights costs as much as multiplying a few vectors by them."""
Map = tuple[Tensor, Tensor | None]
"""Weight and bias of a linear."""
PRECISIONS = (torch.float32, torch.float64)
POINTER = (ctypes.c_void_p,)
"""What such a kernel takes: a structure."""


NUMBER, ADDRESS = ctypes.c_int64, ctypes.c_void_p


def is_small(x: Tensor) -> bool:
    """Whether these are vectors of a small net; asked before anything else, as most layers of other nets stop here.

    Under autocast nothing is: it asks for products of another precision.
    """
    width = x.shape[-1]
    return (
        width <= WIDEST
        and x.dtype in PRECISIONS
        and x.numel() >= FEWEST * width
        and not torch.is_autocast_enabled("cpu")
    )


def takes(name: str, *tensors: Tensor | None) -> bool:
    """Whether the kernel `name` can read these as they are, and nobody follows the operations by other means."""
    return library(name) is not None and not is_traced() and lies_in_order(*tensors)


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
