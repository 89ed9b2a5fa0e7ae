"""Errors that a user can act on: what came, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in what the user handed in; its text is one line and says what to do."""


def unknown(what: str, came: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not in a list, with the nearest name.

    >>> print(unknown("scheme", "prenorm", ["post-norm", "pre-norm"]))
    scheme 'prenorm' is unknown; did you mean 'pre-norm'? Allowed: post-norm, pre-norm.
    """
    allowed = sorted(allowed)
    near = get_close_matches(came, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UserError(f"{what} '{came}' is unknown{hint} Allowed: {', '.join(allowed)}.")
