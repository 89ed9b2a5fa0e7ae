"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from addnorm.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no flock; there, nothing is locked
    fcntl = None


ATTEMPTS, PAUSE_S = 3, 0.02
"""A lock that `is_locked` takes for a moment is waited for."""


class FolderLock:
    """An advisory lock on a folder, which ends with the process that holds it, however it ends.

    Two processes that resume the same run would write their rows and checkpoints into each other.

    It is taken before anything is read: two processes that both find a new folder would both train in it. `claim`
    makes a folder that is missing, because what does not exist cannot be locked; `release` takes it away again
    where nothing was written, so that a mistake leaves no folder behind.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None
        self._made: list[Path] = []

    def claim(self) -> None:
        """Make the folder if it is missing, and take its lock.

        Raises:
            UserError: another process holds it; it is a file, or cannot be made.
        """
        while not self._is_held():
            missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise UserError(f"{self.folder} is a file; name a folder.") from None
            except OSError as error:
                text = f"{self.folder} cannot be written ({error.strerror}); name a folder you may write."
                raise UserError(text) from error
            self._made += missing
            if not self.acquire():
                return

    def acquire(self) -> bool:
        """Take the lock if the folder exists; whether this system and this disk have locks.

        Raises:
            UserError: another process holds it.
        """
        if fcntl is None or not self.folder.is_dir():
            return fcntl is not None
        if self._descriptor is not None:
            return True
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            _exclude_others(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(f"{self.folder} is being trained by another process; wait for it or stop it.") from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        if not self._is_held():  # who had it gave up in between, and took the folder away
            os.close(descriptor)
            self._descriptor = None
        return True

    def release(self) -> None:
        """Give the lock back, and take away the folders that `claim` made if they are empty still."""
        for path in self._made:
            with suppress(OSError):  # not empty, or gone
                path.rmdir()
        self._made = []
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FolderLock:
        self.claim()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _is_held(self) -> bool:
        """Whether what is locked is what stands under the folder's name now."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.folder))
        except FileNotFoundError:
            return False


def is_locked(folder: Path) -> bool:
    """Whether a process trains in the folder, as far as this system can tell."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _exclude_others(descriptor: int) -> None:
    """Raises `BlockingIOError` where another process holds the lock, and goes on holding it."""
    assert fcntl is not None
    for attempt in range(ATTEMPTS):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == ATTEMPTS - 1:
                raise
        time.sleep(PAUSE_S)
