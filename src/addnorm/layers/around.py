"""Sites whose connection is around another one that a kernel knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import Tensor

from addnorm.layers.route import Route, SiteRecipe


@dataclass(frozen=True, kw_only=True, eq=False)
class AroundRecipe(SiteRecipe):
    """What an inner connection does, with something done before and after it.

    Args:
        inner: its recipe.
        update: what it is given of the sublayer's output, if that is changed.
        inside: what it is given of the state, if that is a part of it or changed.
        outside: the state, of what was there before and the inner connection's own after it; None if that is all.
    """

    inner: SiteRecipe
    update: Callable[[Tensor], Tensor] | None = None
    inside: Callable[[Any], Any] | None = None
    outside: Callable[[Any, Any], Any] | None = None

    def begin(self, following: Sequence[AroundRecipe], state: Any) -> Route | None:
        """Through all that change nothing but updates; where something is done to the state, through this one."""
        row: list[AroundRecipe] = [self]
        if self.inside is self.outside is None:
            row.extend(takewhile(self._goes_on_with, following))
        own = state if self.inside is None else self.inside(state)
        route = self.inner.begin([one.inner for one in row[1:]], own)
        return None if route is None else _Surrounded(row, route)

    def _goes_on_with(self, other: AroundRecipe) -> bool:
        return other.inside is other.outside is None and type(other.inner) is type(self.inner)


class _Surrounded(Route):
    def __init__(self, row: Sequence[AroundRecipe], route: Route) -> None:
        self.row, self.route, self.place = row, route, 0
        self.state: Any = None
        self.changed: Tensor | None = None  # an update that nobody has written yet

    def enter(self, state: Any) -> Any:
        inside, self.state = self.row[0].inside, state
        return self.route.enter(state if inside is None else inside(state))

    def follow(self, update: Tensor) -> Any:
        self.changed = self._changed(update)
        if self.place + 1 == len(self.row) or (x := self.route.follow(self.changed)) is None:
            return None
        self.place, self.changed = self.place + 1, None
        return x

    def leave(self, update: Tensor) -> Any:
        # What was changed at random once is not changed again.
        after = self.route.leave(self._changed(update) if self.changed is None else self.changed)
        outside = self.row[self.place].outside
        return after if outside is None else outside(self.state, after)

    def _changed(self, update: Tensor) -> Tensor:
        change = self.row[self.place].update
        return update if change is None else change(update)
