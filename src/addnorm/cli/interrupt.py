"""Ctrl-C that cannot get lost: a library that swallows the exception, in an import say, does not swallow the wish."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Noted:
    """A handler of SIGINT that raises `KeyboardInterrupt`, as ever, and remembers that it did."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def noted() -> Iterator[None]:
    """Inside, a Ctrl-C that came and was swallowed is found by `addnorm.training.interruption`."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # whoever has another handler has a reason
        return
    signal.signal(signal.SIGINT, Noted())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
