"""Activations that backward makes again from what is kept anyway, instead of keeping them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import is_traced

Make = Callable[[], Tensor]


@dataclass(eq=False)
class _Made:
    """A tensor that can be made again."""

    tensor: weakref.ref[Tensor]
    version: int
    make: Make
    around: torch.autocast  # as it was when the tensor was first made
    uses: int = 0  # times that it was handed over to be kept, and not yet asked back
    again: Tensor | None = None

    def asked(self) -> Tensor:
        """Made at the first request, dropped after the last."""
        if self.again is None:
            with torch.no_grad(), self.around:
                self.again = self.make()
        tensor, self.uses = self.again, self.uses - 1
        if self.uses <= 0:
            self.again = None
        return tensor


@dataclass(eq=False)
class _Kept:
    """What stands in the graph for a tensor that can be made again."""

    made: _Made
    shape: torch.Size


@dataclass
class _Table(threading.local):
    """The tensors of this thread that can be made again, by address; None outside of `rebuilding`."""

    made: dict[int, _Made] | None = None


_TABLE = _Table()


@contextmanager
def rebuilding() -> Iterator[None]:
    """Within it, what is `rebuildable` is not kept for backward: backward makes it again, to the bit.

    A norm's result is made again from its input, an activation's from its argument, both of which are kept for
    their own backward. Chen et al. 2016, arXiv:1604.06174, choose the same cheap operations.
    """
    if _TABLE.made is not None:  # one around the other is one
        yield
        return
    _TABLE.made = {}
    pack, unpack = _hooks()
    try:
        with torch.autograd.graph.saved_tensors_hooks(partial(_pack, pack), partial(_unpack, unpack)):
            yield
    finally:
        _TABLE.made = None


def is_rebuilding() -> bool:
    """Whether this thread is within `rebuilding`."""
    return _TABLE.made is not None


def rebuildable(tensor: Tensor, make: Callable[..., Tensor], *given: Any) -> Tensor:
    """The tensor; within `rebuilding` it is not kept for backward.

    Args:
        tensor: what `make` gives.
        make: computes it again, to the bit.
        given: what it computes it from; tensors among it are kept for backward anyway.
    """
    table = _TABLE.made
    if table is not None and torch.is_grad_enabled() and not is_traced() and type(tensor) is Tensor:
        original = weakref.ref(tensor)
        make = partial(make, *(one.detach() if isinstance(one, Tensor) else one for one in given))
        table[tensor.data_ptr()] = _Made(tensor=original, version=tensor._version, make=make, around=_autocast(tensor))
    return tensor


def _autocast(tensor: Tensor) -> torch.autocast:
    kind = tensor.device.type
    on = torch.is_autocast_enabled(kind)
    return torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=on, cache_enabled=False)


def _hooks() -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """What a caller has hung in, such as an offload to other memory: torch asks the innermost hooks alone."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    found = None if top is None else top(True)
    return found or (lambda tensor: tensor, lambda kept: kept)


def _pack(otherwise: Callable[[Tensor], Any], tensor: Tensor) -> Any:
    made = (_TABLE.made or {}).get(tensor.data_ptr()) if type(tensor) is Tensor else None
    # A dead tensor's memory may be another's by now, and a changed one is not what would be made.
    original = None if made is None else made.tensor()
    if made is None or original is None or not _same(tensor, original) or tensor._version != made.version:
        return otherwise(tensor)
    made.uses += 1
    return _Kept(made=made, shape=tensor.shape)


def _same(tensor: Tensor, original: Tensor) -> bool:
    """Whether one is the other in another shape."""
    whole = tensor.numel() == original.numel() and tensor.dtype == original.dtype
    return whole and tensor.is_contiguous() and original.is_contiguous()


def _unpack(otherwise: Callable[[Any], Tensor], kept: Any) -> Tensor:
    return kept.made.asked().view(kept.shape) if isinstance(kept, _Kept) else otherwise(kept)
