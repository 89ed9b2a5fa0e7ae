"""Which tokens of this forward are real, for norms that take statistics over tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool


class _Padding(threading.local):
    """One thread's padding; not a context variable, because the compiler cannot trace those."""

    keep: Tensor | None = None
    again: bool = False


_PADDING = _Padding()


@contextmanager
def padding(keep: Bool[Tensor, "batch tokens"] | None, *, again: bool = False) -> Iterator[None]:
    """Within it, norms that take statistics over tokens leave out the tokens where `keep` is False.

    Args:
        keep: which tokens are real (True); None = all.
        again: this forward repeats one for its gradients, so running statistics have seen its batch already.
    """
    outer = _PADDING.keep, _PADDING.again
    _PADDING.keep, _PADDING.again = keep, again
    try:
        yield
    finally:
        _PADDING.keep, _PADDING.again = outer


def current_padding() -> Bool[Tensor, "batch tokens"] | None:
    """The mask of the real tokens of this forward, or None when all are real."""
    return _PADDING.keep


def is_again() -> bool:
    """Whether this forward repeats one for its gradients."""
    return _PADDING.again
