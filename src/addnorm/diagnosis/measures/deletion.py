"""What the loss does when a block is left out, and when two neighbours change places.

    deleted_i = loss with block i's output replaced by its input - loss;    swapped_i: with blocks i and i + 1 exchanged

Veit et al. 2016, arXiv:1605.06431: of a residual net single layers can be deleted and exchanged at little cost. Beside
block influence (a cosine), these are what really happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from addnorm.diagnosis.subject import Series, Subject
from addnorm.probes.untouched import untouched


def deletion(subject: Subject) -> list[Series]:
    """By block, the rise of the loss; None where the model does not run that way, and at the last of the swapped."""
    names = list(dict.fromkeys(name for name, _, _ in subject.blocks()))
    if subject.loss is None or not names:
        return []
    whole = _loss(subject)
    deleted = [_rise(subject, whole, _deleted(subject, name)) for name in names]
    swapped = [_rise(subject, whole, exchanged(subject.model, a, b)) for a, b in zip(names, names[1:], strict=False)]
    named = {
        "loss without": ("rise of the loss without the block", deleted),
        "loss swapped": ("rise of the loss with the next block before it", [*swapped, None]),
    }
    return [
        Series(name=name, along="block", values=values, places=names, label=label)
        for name, (label, values) in named.items()
    ]


@contextmanager
def without(model: nn.Module, names: list[str]) -> Iterator[None]:
    """Within it the named blocks give back what they are given."""
    handles = [model.get_submodule(name).register_forward_hook(_passed, with_kwargs=True) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def silenced(model: nn.Module, names: list[str]) -> Iterator[None]:
    """Within it the named sublayers write zeros."""
    handles = [model.get_submodule(name).register_forward_hook(_nothing) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def exchanged(model: nn.Module, first: str, second: str) -> Iterator[None]:
    """Within it two modules stand in each other's place."""
    places = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in (first, second)]
    modules = [parent.get_submodule(key) for parent, key in places]
    try:
        for (parent, key), module in zip(places, reversed(modules), strict=True):
            setattr(parent, key, module)
        yield
    finally:
        for (parent, key), module in zip(places, modules, strict=True):
            setattr(parent, key, module)


def _deleted(subject: Subject, block: str) -> AbstractContextManager[None]:
    """By its own call; where it is a list of parts that are called one by one, by what they write."""
    if type(subject.model.get_submodule(block)).forward is not nn.ModuleList.forward:
        return without(subject.model, [block])
    inside = [sublayer.name for sublayer in subject.trace.trunk.sublayers if sublayer.block == block]
    return silenced(subject.model, [name for name in inside if name])


def _nothing(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Zeros in the place of the first tensor."""
    leaves, form = tree_flatten(output)
    at = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)
    if at is None:
        return output
    return tree_unflatten([*leaves[:at], torch.zeros_like(leaves[at]), *leaves[at + 1 :]], form)


def put_in_place(given: Any, output: Any) -> Any:
    """A state in the place of a block's output: of the whole, if it is of its form; else of its first such tensor."""
    leaves, form = tree_flatten(output)
    if isinstance(output, Tensor) or tree_flatten(given)[1] == form or not isinstance(given, Tensor):
        return given
    at = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.shape == given.shape), 0)
    return tree_unflatten([*leaves[:at], given, *leaves[at + 1 :]], form)


def _passed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    return put_in_place(args[0] if args else next(iter(kwargs.values())), output)


def _rise(subject: Subject, whole: float, change: Any) -> float | None:
    try:
        with change:
            return _loss(subject) - whole
    except Exception:  # anybody's model: it takes another form of state, or something that the block passes on
        return None


@torch.no_grad()
def _loss(subject: Subject) -> float:
    assert subject.loss is not None
    with untouched(subject.model):
        return float(subject.loss())
