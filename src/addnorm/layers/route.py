"""Routes: several sites in a row by one kernel, decided once a forward.

A connection's `read` and `write` alone define its scheme. A kernel that knows them does the write of one site and the
read of the next in one pass over the state. What it is told of a site is a recipe (`Connection.fused`); a route is one
forward through sites with recipes of one kind. Whether a kernel takes the state and all that is learned is asked where
a route begins, once for all its sites; at a site it is asked of the sublayer's output alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import Tensor, nn

from addnorm.kernels.derivatives import is_traced

EQUATIONS = frozenset(("read", "write", "inner_skip", "collapse", "normed", "forward"))
"""The methods of a connection or an exit that a recipe speaks for."""


class Route(ABC):
    """One forward through sites in a row."""

    @abstractmethod
    def enter(self, state: Any) -> Any:
        """Read at the first site: what its sublayer is given."""

    @abstractmethod
    def follow(self, update: Tensor) -> Any:
        """Write, and read at the next site; None, with nothing done, where the route ends at this one."""

    @abstractmethod
    def leave(self, update: Tensor) -> Any:
        """Write: the state."""


class SiteRecipe(ABC):
    """What a kernel is told of one site."""

    @abstractmethod
    def begin(self, following: Sequence[Any], state: Any) -> Route | None:
        """The route of this site and of those that follow it, or of as many as a kernel takes.

        None if it takes no site of this kind, because of the state, or of what is learned at one of them.

        Args:
            following: recipes of the same class; the last may be an exit's, which reads and never writes.
            state: what this site reads.
        """


class Equations(Route):
    """Sites by their own `read` and `write`."""

    def __init__(self, connections: Sequence[Any]) -> None:
        self.rest = iter(connections)
        self.connection: Any = None
        self.skip: Any = None

    def enter(self, state: Any) -> Any:
        """As the next connection reads."""
        self.connection = next(self.rest)
        x, self.skip = self.connection.read(state)
        return x

    def follow(self, update: Tensor) -> Any:
        """As one writes and the next one reads."""
        before, skip = self.connection, self.skip
        self.connection = next(self.rest, None)
        if self.connection is None:
            self.connection = before
            return None
        x, self.skip = self.connection.read(before.write(skip, update))
        return x

    def leave(self, update: Tensor) -> Any:
        """As the connection writes."""
        return self.connection.write(self.skip, update)


def begin(readers: Sequence[nn.Module | None], state: Any) -> Route:
    """The longest route that a kernel takes from the first of these connections on; if none does, that of equations.

    Args:
        readers: connections and, at most as the last, an exit; None for one that somebody watches.
        state: what the first reads.
    """
    recipes = [] if is_traced() else _recipes_of_one_kind(readers)
    route = recipes[0].begin(recipes[1:], state) if recipes else None
    if route is None:  # the same answer for all of the kind
        return Equations([reader for reader in readers[: max(1, len(recipes))] if hasattr(reader, "read")])
    return route


def alone(reader: nn.Module, state: Any) -> Route | None:
    """The route of one reader, or None where no kernel takes it."""
    recipe = None if is_traced() else recipe_of(reader)
    return None if recipe is None else recipe.begin((), state)


def _recipes_of_one_kind(readers: Sequence[nn.Module | None]) -> list[SiteRecipe]:
    """From the first on; none if it has none."""
    found: list[SiteRecipe] = []
    for reader in readers:
        recipe = recipe_of(reader)
        if recipe is None or (found and type(recipe) is not type(found[0])):
            break
        found.append(recipe)
    return found


def recipe_of(reader: Any) -> SiteRecipe | None:
    """What a kernel is told in its place; None if somebody derived it or patched it, so that it says something else."""
    if reader is None or not _speaks_for_itself(type(reader)) or not EQUATIONS.isdisjoint(reader.__dict__):
        return None
    return reader.fused()


@cache
def _speaks_for_itself(kind: type) -> bool:
    """Whether the class whose `fused` is found has all equations that are found, or inherits them."""
    owner = next(one for one in kind.__mro__ if "fused" in vars(one))
    return all(getattr(kind, name, None) is getattr(owner, name, None) for name in EQUATIONS)
