"""One module's call within a model's forward, to be made again with another input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from addnorm.kernels import native

CACHES = ("past_key_value", "past_key_values", "cache_params", "cache")


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A module and what it was given.

    Args:
        module: what is called.
        args, kwargs: all of it; a cache left out, which a second call would fill again.
        place: of the first tensor of numbers among them.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | str

    @property
    def x(self) -> Tensor:
        """That tensor."""
        return self.args[self.place] if isinstance(self.place, int) else self.kwargs[self.place]

    def __call__(self, x: Tensor) -> Tensor:
        """The first tensor that the module makes of x and of all else as it was."""
        if isinstance(self.place, str):
            output = self.module(*self.args, **(self.kwargs | {self.place: x}))
        else:
            output = self.module(*self.args[: self.place], x, *self.args[self.place + 1 :], **self.kwargs)
        return next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def calls(model: nn.Module, names: list[str], run: Callable[[], Any]) -> dict[str, Call]:
    """The first call of each named module while the batch runs; not of those that are given no tensor of numbers."""
    found: dict[str, Call] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
            place = next((key for key, x in given if isinstance(x, Tensor) and x.is_floating_point()), None)
            if place is not None and name not in found:
                kept = {key: None if key in CACHES else value for key, value in kwargs.items()}
                call = Call(module=module, args=args, kwargs=kept, place=place)
                found[name] = replace(call, **_detached(call))

        return keep

    handles = [model.get_submodule(n).register_forward_pre_hook(hook(n), with_kwargs=True) for n in names if n]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _detached(call: Call) -> dict[str, Any]:
    x = call.x.detach()
    if isinstance(call.place, str):
        return {"kwargs": call.kwargs | {call.place: x}}
    return {"args": (*call.args[: call.place], x, *call.args[call.place + 1 :])}


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention and addnorm's own kernels in the form that has a derivative of its derivative."""
    with sdpa_kernel(SDPBackend.MATH), native.switched(False), torch.enable_grad():
        yield
