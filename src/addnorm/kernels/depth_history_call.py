"""Calls of `depth_history.cpp`: its arguments, field by field as there."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from addnorm.kernels import native

NAME = "depth_history"
NONE, LAYER, RMS = range(3)  # norms
_ARGUMENTS = (ctypes.c_void_p,)
ALONE = 64  # tokens that one thread does sooner than two


_ADDRESS, _NUMBER, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
READ = native.structure(
    ("sources inverse", _ADDRESS),
    ("before update query gain bias mixture result weights scores statistics", _ADDRESS),
    ("n born tokens d threads kind", _NUMBER),
    ("eps norm_eps", _REAL),
)
GATHER = native.structure(
    ("grads levels weights scores queries grad_queries widths", _ADDRESS),
    ("grad mixture gain statistics grad_mixture level grad_gain grad_bias value inverse carried grad_value", _ADDRESS),
    ("place reads tokens d threads stride kind", _NUMBER),
)


def numbers(given: Sequence[int]) -> array[int]:
    """As the kernel takes them; keep it until the call is over."""
    made = array("q", given)
    native.hold(made)
    return made


def addresses(tensors: Sequence[Tensor]) -> array[int]:
    """Of contiguous tensors; keep both until the call is over."""
    return numbers(native.addresses(*tensors))


def call(
    symbol: str,
    layout: type[ctypes.Structure],
    lists: Mapping[str, array[int]],
    tensors: Mapping[str, Tensor | None],
    others: Mapping[str, float],
) -> None:
    """Lists and tensors live until it returns; what is not named is null."""
    places = dict(zip(tensors, native.addresses(*tensors.values()), strict=True))
    for name, one in lists.items():
        places[name] = one.buffer_info()[0]
    kernel = native.function(NAME, symbol, tensors["mixture"].dtype, _ARGUMENTS)  # pyrefly: ignore
    kernel(ctypes.byref(layout(**places, **others)))


def threads(tokens: int) -> int:
    """As many as torch uses, and one for few tokens."""
    return 1 if tokens < ALONE else torch.get_num_threads()
