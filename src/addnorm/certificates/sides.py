"""Two stacks side by side: the same random parameters, the same states and updates, site by site."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from addnorm.certificates.drawn_numbers import draw_alike_, inputs_of, leaves, relative
from addnorm.certificates.recovery import Recovered, form, random_states, recover
from addnorm.certificates.subject import Subject
from addnorm.errors import UserError
from addnorm.residual import Connection, State
from addnorm.stack import Block, Stack

LAYERS, WIDTH = 3, 64
# float64: sums of some hundred terms in another order, and Sinkhorn's 20 divisions. A fault is as large as the thing.
SAME = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One connection at one site, and what it did.

    Args:
        connection: with its random parameters.
        state: as its own kind of pytree.
        read: what the sublayer gets.
        after: the tensors of the state after the write.
        recovered: mixing and gate of the write.
    """

    connection: Connection
    state: State
    read: Tensor
    after: list[Tensor]
    recovered: Recovered


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """The subject and the reference at one site."""

    site: int
    update: Tensor
    ours: Side
    theirs: Side

    @property
    def read(self) -> float:
        """The relative difference of what is read."""
        return relative(self.ours.read, self.theirs.read)

    @property
    def write(self) -> float:
        """The relative difference of what is written."""
        return difference(self.ours.after, self.theirs.after)


def difference(one: list[Tensor], two: list[Tensor]) -> float:
    """The largest relative difference of tensors in order; infinite where there are more on one side."""
    if len(one) != len(two):
        return float("inf")
    return max((relative(a, b) for a, b in zip(one, two, strict=True)), default=0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Everything that was run; `problem` says why it could not be, and then there are no pairs."""

    pairs: tuple[Pair, ...] = ()
    entrance: float = 0.0
    exit: float = 0.0
    weights: float = 0.0
    problem: str = ""


@torch.no_grad()
def compare(subject: Subject, reference: Subject) -> Comparison:
    """Both sides at six sites, at the entrance and at the exit; and their sublayers' initial weights."""
    ours, theirs = (side.stack(LAYERS, WIDTH).double() for side in (subject, reference))
    weights = max(map(relative, _sublayer_weights(ours), _sublayer_weights(theirs)), default=0.0)
    for site in range(2 * LAYERS):
        if not _draw(ours, theirs, f"blocks.{site}.connection"):
            return Comparison(problem=f"its parameters at site {site} have other names and other shapes")
    pairs = []
    for site, connection, state, update in random_states(theirs, subject.width(WIDTH)):
        block = ours.blocks[site]
        assert isinstance(block, Block)
        try:
            side = side_of(block.connection, _as_own(ours, site, state, subject), update)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            return Comparison(problem=f"at site {site} it does not take the reference's state ({error})")
        pairs.append(Pair(site=site, update=update, ours=side, theirs=side_of(connection, state, update)))
    x = pairs[0].update
    enters = _draw(ours, theirs, "entrance")
    exits = _draw(ours, theirs, "exit")
    return Comparison(
        pairs=tuple(pairs),
        entrance=difference(leaves(ours.entrance(x)), leaves(theirs.entrance(x))) if enters else float("inf"),
        exit=_exit_difference(ours, theirs, pairs[-1]) if exits else float("inf"),
        weights=weights,
    )


def _draw(ours: Stack, theirs: Stack, name: str) -> bool:
    """Give a part of both the same random parameters; False where it has others."""
    return draw_alike_(ours.get_submodule(name), theirs.get_submodule(name), name)


@torch.no_grad()
def side_of(connection: Connection, state: State, update: Tensor) -> Side:
    """Run a connection."""
    x, skip = connection.read(state)
    after = leaves(connection.write(skip, update))
    read = inputs_of(x)
    return Side(
        connection=connection, state=state, read=read, after=after, recovered=recover(connection, state, update)
    )


def cumulated(state: State) -> State:
    """A history in which each entry is replaced by the sum of all up to it."""
    found, spec = tree_flatten(state)
    return tree_unflatten(list(accumulate(found)), spec)


def is_history(pairs: tuple[Pair, ...]) -> bool:
    """Whether the reference keeps what earlier sublayers gave: several equal tensors in some state."""
    return any(len(shapes := form(pair.theirs.state)) > 2 and len(set(shapes)) == 1 for pair in pairs)


def _sublayer_weights(stack: Stack) -> list[Tensor]:
    return [weight for path, weight in stack.named_parameters() if ".sublayer." in path and ".inside." not in path]


def _as_own(stack: Stack, site: int, state: State, subject: Subject) -> Any:
    """The state in the subject's own containers (a list, say), where the tensors are as many."""
    for number, _, own, _ in random_states(stack, subject.width(WIDTH)):
        if number == site:
            _, spec = tree_flatten(own)
            found, _ = tree_flatten(state)
            if form(own) != form(state):
                raise UserError(f"it carries {form(own)} a token, the reference {form(state)}")
            return tree_unflatten(found, spec)
    raise AssertionError(site)


def _exit_difference(ours: Stack, theirs: Stack, last: Pair) -> float:
    return relative(ours.exit(last.ours.state), theirs.exit(last.theirs.state))
