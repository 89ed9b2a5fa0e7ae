"""What a piece of computing called, in order, to be called again on other numbers in the same memory.

In a small net most of a step is not arithmetic but finding out what to compute: modules, autograd, allocations. A tape
is taken while that happens once; playing it calls the same operations of torch and the same kernels of ours on the same
tensors, without a module or a graph, and nearly without an allocation. Views need no call: they are views of the same
memory still. So the results have the same bits, as long as nothing but numbers has changed; who plays a tape checks
that now and then (`addnorm.training.taped_gradient`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from addnorm.kernels import native
from addnorm.kernels.dispatch import DispatchMode

ROOMS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
"""Operations that only make room, which a tape keeps."""
CHOOSING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Of operations whose result steers what is computed next, or has a size that depends on numbers."""


class Tape(DispatchMode):
    """Notes what is called while it is entered, and keeps all tensors alive.

    Args:
        most_bytes: of memory that it may keep; beyond, it lets go of everything and is `spoilt`.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self.most_bytes = most_bytes
        self.spoilt = ""
        """Why it can't be played; empty if it can."""
        self._calls: list[Callable[[], object]] = []
        self._kept: dict[int, Tensor] = {}
        self._held: list[object] = []
        self._bytes = 0

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Within it, calls of torch and of our kernels are noted."""
        with native.noted_by(self), self:
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.spoilt:
            self._note(func, args, kwargs, result)
        return result

    def kernel(self, run: Callable[..., None]) -> Callable[..., None]:
        """The kernel, which is noted when it is called."""

        def called(*given: Any) -> None:
            if not self.spoilt:
                self._calls.append(partial(run, *given))
            run(*given)

        return called

    def hold(self, *held: object) -> None:
        """Keep what a kernel has the address of."""
        if not self.spoilt:
            self._held.append(held)

    @torch.no_grad()
    def play(self) -> None:
        """Call it all again."""
        assert not self.spoilt, self.spoilt
        with torch._C._AutoDispatchBelowAutograd():
            for call in self._calls:
                call()

    def _note(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        outputs = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        inputs = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if any(tag in func.tags for tag in CHOOSING) and not _picks_by_number(func, args):
            self._spoil(f"{func} lets numbers decide what is computed")
            return
        if any(type(one) not in (Tensor, torch.nn.Parameter) for one in (*inputs, *outputs)):
            self._spoil(f"{func} meets a tensor of another class")
            return
        self._keep(outputs)
        if self.spoilt or func._schema.name.removeprefix("aten::") in ROOMS:
            return
        if any(one.alias_info is not None and one.alias_info.is_write for one in func._schema.arguments):
            self._calls.append(partial(func, *args, **kwargs))
            return
        lent = {one.untyped_storage().data_ptr() for one in inputs}
        if all(one.untyped_storage().data_ptr() in lent for one in outputs):
            return  # views
        into = _into(func, kwargs, outputs)
        self._calls.append(_copied(func, args, kwargs, outputs) if into is None else partial(into[0], *args, **into[1]))

    def _keep(self, tensors: list[Tensor]) -> None:
        for one in tensors:
            storage = one.untyped_storage()
            if storage.data_ptr() not in self._kept:
                self._bytes += storage.nbytes()
            self._kept[storage.data_ptr()] = one
        if self._bytes > self.most_bytes:
            self._spoil(f"it would keep more than {self.most_bytes / 1e6:.0f} MB")

    def _spoil(self, why: str) -> None:
        self.spoilt = why
        self._calls.clear()
        self._kept.clear()
        self._held.clear()


def _picks_by_number(func: Any, args: Any) -> bool:
    """Whether it is an indexing by whole numbers, whose result has a known size; by truth values it has not."""
    if func is not torch.ops.aten.index.Tensor:
        return False
    return not any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])


def _into(func: Any, kwargs: dict[str, Any], outputs: list[Tensor]) -> tuple[Any, dict[str, Any]] | None:
    """The form of an operation that writes into given tensors, with its keywords; None where there is none."""
    own = [(one.name, str(one.type)) for one in func._schema.arguments]
    packet = func.overloadpacket
    for name in packet.overloads():
        form = getattr(packet, name)
        rooms = [one.name for one in form._schema.arguments if one.is_out]
        others = [(one.name, str(one.type)) for one in form._schema.arguments if not one.is_out]
        if len(rooms) == len(outputs) and rooms and others == own:
            return form, kwargs | dict(zip(rooms, outputs, strict=True))
    return None


def _copied(func: Any, args: Any, kwargs: dict[str, Any], outputs: list[Tensor]) -> Callable[[], None]:
    def call() -> None:
        found = [one for one in tree_leaves(func(*args, **kwargs)) if isinstance(one, Tensor)]
        for room, one in zip(outputs, found, strict=True):
            room.copy_(one)

    return call
