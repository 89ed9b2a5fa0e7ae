"""Errors that a user can act on: what came, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST_LISTED = 12
"""Names that are all listed; of more the nearest are."""
NEAREST = 5


class UserError(ValueError):
    """A mistake in what the user handed in; its text is one line and says what to do."""


def unknown(what: str, came: str, allowed: Iterable[str], see: str = "") -> UserError:
    """The error for a name that is not in a list, with the nearest names.

    Args:
        what: the name is of.
        came: the name.
        allowed: those there are; a list that nobody reads through is cut to the nearest.
        see: where more is to be found, with the mark that it follows.

    >>> print(unknown("scheme", "prenorm", ["post-norm", "pre-norm"]))
    scheme 'prenorm' is unknown; did you mean 'pre-norm'? Allowed: post-norm, pre-norm.
    """
    allowed = sorted(allowed)
    near = get_close_matches(came, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    listed = f"Allowed: {', '.join(allowed)}"
    if len(allowed) > MOST_LISTED:
        nearest = get_close_matches(came, allowed, n=NEAREST, cutoff=0.0)
        listed = f"Nearest of {len(allowed)}: {', '.join(nearest)}"
    return UserError(f"{what} '{came}' is unknown{hint} {listed}{see}.")
