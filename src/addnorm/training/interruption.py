"""Ctrl-C and SIGTERM: finish the step, save, leave with a documented exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A run was asked to stop and has saved what it had.

    Args:
        folder: the run's folder; `train(config, folder, resume=True)` continues it.
        signal_number: which signal asked.
    """

    def __init__(self, folder: Path, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}; resume {folder} to go on.")
        self.folder, self.signal_number = folder, signal_number

    @property
    def exit_code(self) -> int:
        """What a command shall exit with: 130 for Ctrl-C, 143 for SIGTERM (128 + the signal's number, as shells do).

        >>> Interrupted(Path("run"), signal.SIGTERM).exit_code
        143
        """
        return 128 + self.signal_number


class StopNow(BaseException):
    """Raised inside `Watch.breakable` when a signal comes; BaseException, so that no `except Exception` swallows it."""


def refuse_interrupted() -> None:
    """Do not begin what a Ctrl-C was to prevent, though a library swallowed it while it was imported.

    Raises:
        KeyboardInterrupt: the handler of SIGINT remembers one.
    """
    if getattr(signal.getsignal(signal.SIGINT), "came", False):
        raise KeyboardInterrupt


class Watch:
    """Notes the first SIGINT or SIGTERM while it is entered; a second Ctrl-C is a KeyboardInterrupt as ever.

    Signals reach Python in the main thread only; in another thread it watches nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._breakable = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Watch:
        refuse_interrupted()
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def interrupted(self, folder: Path) -> Interrupted:
        """The exception that tells of the signal."""
        assert self.signal_number is not None
        return Interrupted(folder, self.signal_number)

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """What stands in it changes nothing that is saved: a signal leaves it at once with `StopNow`."""
        if self.signal_number is not None:
            raise StopNow
        self._breakable = True
        try:
            yield
        finally:
            self._breakable = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number
        if self._breakable:
            self._breakable = False
            raise StopNow
