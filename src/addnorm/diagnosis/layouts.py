"""How a state lies in a model's own tensors, and the same state as `(*tokens, n, d_model)`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from addnorm.diagnosis.adds import ResidualAdd
from addnorm.diagnosis.naming import Writer
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.trunk import Where

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the streams of a state lie.

    Args:
        where: as `Trunk.where`.
        streams: how many.
        vector: the shape of one vector a token, `(*tokens, d_model)`.
    """

    where: Where
    streams: int
    vector: Shape

    @property
    def shape(self) -> Shape:
        """Of a whole state in the model's own tensors."""
        return _shapes(self.streams, self.vector)[self.where]

    def vectors(self, state: Tensor) -> Tensor:
        """`(*tokens, n, d_model)`."""
        if self.where == "features":
            return state.unflatten(-1, (self.streams, self.vector[-1]))
        if self.where == "first axis":
            return state.movedim(0, -2)
        if self.where == "own axis":
            return state
        # A state that is kept in pieces (frac-connections) is one vector, as its sublayers write it.
        return (state.reshape(self.vector) if state.numel() == math.prod(self.vector) else state).unsqueeze(-2)


@dataclass(frozen=True, kw_only=True)
class State:
    """A state on a tape.

    Args:
        values: the one that is all of it, or, of a history, each vector.
        active: of a whole state one of whose streams has moved on alone: which, and the value it has now.
    """

    values: tuple[int, ...]
    active: tuple[int, int] | None = None

    @property
    def made_of(self) -> Iterator[int]:
        """All values."""
        yield from self.values
        if self.active is not None:
            yield self.active[1]

    def vectors(self, layout: Layout, tensor: Callable[[int], Tensor]) -> Tensor:
        """`(*tokens, n, d_model)` of what a value has: its numbers, its gradient."""
        if len(self.values) > 1:
            return torch.stack([tensor(value).reshape(layout.vector) for value in self.values], dim=-2)
        whole = layout.vectors(tensor(self.values[0]))
        if self.active is not None:
            whole = whole.clone()
            whole[..., self.active[0], :] = tensor(self.active[1])
        return whole


def layout_of(skeleton: Skeleton, sites: Sequence[tuple[ResidualAdd, Writer]]) -> Layout:
    """By the shape that most writes have, and the shape of what they are added to."""
    made = [tuple(skeleton.value(writer.made).tensor.shape) for _, writer in sites]
    vector = Counter(made).most_common(1)[0][0]
    votes: Counter[Layout] = Counter()
    wide = 0
    for add, _ in sites:
        shapes = [tuple(skeleton.value(v).tensor.shape) for v in (add.out, skeleton.root(add.source))]
        found = [layout for shape in shapes if (layout := _wide(shape, vector)) is not None]
        votes.update(found)
        wide += bool(found)
    if 2 * wide >= len(sites):
        return votes.most_common(1)[0][0]
    return Layout(where="alone", streams=1, vector=vector)


def whole_state(skeleton: Skeleton, value: int, layout: Layout, floor: int = 0) -> int | None:
    """The latest whole state that a value is made of."""
    for each, _ in skeleton.carried(value, floor=floor):
        if tuple(skeleton.value(each).tensor.shape) == layout.shape:
            return each
    return None


def _wide(shape: Shape, vector: Shape) -> Layout | None:
    *tokens, width = vector
    if shape[-1:] == (width,) and len(shape) == len(vector) + 1 and shape[:-2] == tuple(tokens):
        return Layout(where="own axis", streams=shape[-2], vector=vector) if shape[-2] > 1 else None
    if shape[-1:] == (width,) and shape[1:] == vector:
        return Layout(where="first axis", streams=shape[0], vector=vector) if shape[0] > 1 else None
    if shape[:-1] == tuple(tokens) and shape[-1] > width and shape[-1] % width == 0:
        return Layout(where="features", streams=shape[-1] // width, vector=vector)
    return None


def _shapes(streams: int, vector: Shape) -> dict[Where, Shape]:
    *tokens, width = vector
    return {
        "alone": vector,
        "own axis": (*tokens, streams, width),
        "features": (*tokens, streams * width),
        "first axis": (streams, *vector),
    }
