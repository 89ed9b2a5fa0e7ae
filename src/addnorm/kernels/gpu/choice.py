"""Whether tensors go to the Triton kernels; imports no Triton."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import PLAIN, is_traced

DEVICE = "cuda"
PRECISIONS = (torch.float32, torch.bfloat16)
WIDEST = 16384
"""Numbers of a row that the registers of one program hold."""
MOST_STREAMS = 4
"""Of mHC: a site's kernels unroll `n^2` products and were compiled for no more."""


@cache
def is_installed() -> bool:
    """Whether there is a Triton to import."""
    return find_spec("triton") is not None


def takes(first: Tensor, *others: Tensor | None) -> bool:
    """Whether a Triton kernel can read these: plain tensors of float32 or bfloat16 on one GPU.

    Where the C++ kernels are switched off, these are too.
    """
    if first.device.type != DEVICE or not native.enabled() or is_traced() or not is_installed():
        return False
    return all(one is None or _is_plain(one, first) for one in (first, *others))


def _is_plain(one: Tensor, first: Tensor) -> bool:
    plain = type(one) in PLAIN and one.layout is torch.strided and not (one.is_neg() or one._is_zerotensor())
    return plain and one.dtype in PRECISIONS and one.device == first.device


def programs(tensor: Tensor) -> int:
    """How many programs keep the tensor's GPU busy when each takes several blocks of rows in turn."""
    if tensor.device.type != "cuda":
        return 3
    return 2 * torch.cuda.get_device_properties(tensor.device).multi_processor_count
