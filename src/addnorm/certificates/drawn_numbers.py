"""Numbers that are drawn for a test: noise by name, parameters away from every special value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from addnorm.layers.initialise import generator_for
from addnorm.layers.views import Views
from addnorm.residual import Connection

SEED = 0


def noise(shape: tuple[int, ...] | torch.Size, name: str) -> Tensor:
    """Standard normal float64 numbers that depend on the name alone."""
    return torch.randn(shape, generator=generator_for(SEED, name), dtype=torch.float64)


def leaves(tree: Any) -> list[Tensor]:
    """The tensors in a state."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def each(change: Any, tree: Any) -> Any:
    """The same state with every tensor changed."""
    return tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def shaken(state: Any, name: str) -> Any:
    """The state with other noise on each of its tensors: no two streams are equal."""
    count = iter(range(len(leaves(state))))
    return each(lambda leaf: leaf.detach() + noise(leaf.shape, f"{name}/{next(count)}").to(leaf.dtype), state)


def projected(tree: Any) -> Tensor:
    """One number that every entry of every tensor has its own share in."""
    found = leaves(tree)
    return sum(
        ((leaf * noise(leaf.shape, f"share/{number}")).sum() for number, leaf in enumerate(found)),
        start=found[0].new_zeros(()),
    )


def inputs_of(read: Tensor | Views) -> Tensor:
    """What a sublayer reads, as one tensor: the vector, or queries', keys' and values' vectors on top of each other."""
    return torch.stack(list(read)) if isinstance(read, Views) else read


@torch.no_grad()
def move_(module: nn.Module) -> None:
    """Move every parameter off its initial value: a mixing matrix that is the identity looks the same transposed."""
    own = {id(p) for part in module.modules() if isinstance(part, Connection) for p in part.parameters()}
    for path, parameter in module.named_parameters():
        # A connection's own numbers by a lot: its gates and mixtures start at 0, 1 or a unit vector.
        size = 0.4 if id(parameter) in own else 0.1
        parameter.add_((size * (noise(parameter.shape, f"move/{path}") + 0.3)).to(parameter.dtype))


@torch.no_grad()
def draw_alike_(one: nn.Module, two: nn.Module, name: str) -> bool:
    """Fill two modules with the same asymmetric numbers; False where their parameters cannot be paired.

    A matrix is divided by the root of its columns, so that what it maps keeps its size.
    """
    for path, parameter in two.named_parameters():
        columns = parameter.shape[-1] if parameter.dim() > 1 else 1
        parameter.copy_((noise(parameter.shape, f"{name}/{path}") + 0.3) / columns**0.5)
    return copy_numbers_(two, one)


@torch.no_grad()
def copy_numbers_(source: nn.Module, target: nn.Module) -> bool:
    """Give a module the numbers of another, paired by name, or else by order; False where shapes do not allow it."""
    given, taken = dict(source.named_parameters()), dict(target.named_parameters())
    partners = [given[path] for path in taken] if given.keys() == taken.keys() else list(given.values())
    if [p.shape for p in partners] != [p.shape for p in taken.values()]:
        return False
    for mine, parameter in zip(partners, taken.values(), strict=True):
        parameter.copy_(mine)
    return True


@torch.no_grad()
def relative(one: Tensor, two: Tensor) -> float:
    """The largest difference over the largest entry of the second; infinite where shapes differ.

    >>> relative(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))
    0.5
    """
    if one.shape != two.shape:
        return float("inf")
    return float((one - two).abs().max() / two.abs().max().clamp_min(1e-30))
