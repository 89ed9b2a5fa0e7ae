"""The trackers of one run: they see every row, and the run does not depend on them."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from addnorm.errors import UserError
from addnorm.tracking.tensorboard import TensorBoard
from addnorm.tracking.trackio import Trackio

KINDS = {"tensorboard": TensorBoard, "trackio": Trackio}


class TrackerWarning(UserWarning):
    """A tracker is lost; the run goes on without it."""


class Tracker(Protocol):
    """What takes a run's rows."""

    def take(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Tracking:
    """While it is entered, trackers mirror the rows of a run: those that are there already, then each as it comes.

    A tracker that fails is left out from there on, with one warning; metrics.jsonl has everything, and a run that is
    resumed with the tracker writes its curves anew from there.

    Args:
        names: of `KINDS`.
        run: the run's folder.
        metrics: its rows.
        about: what the run is.

    Raises:
        UserError: on entering, a tracker's package is not installed.
    """

    def __init__(self, names: Sequence[str], run: Path, metrics: Path, about: Mapping[str, Any]) -> None:
        self.names, self.run, self.metrics, self.about = names, run, metrics, about
        self.trackers: dict[str, Tracker] = {}

    def __enter__(self) -> Tracking:
        check_installed(self.names)
        for name in dict.fromkeys(self.names):
            try:
                self.trackers[name] = KINDS[name](self.run, self.metrics, self.about)
            except Exception as error:
                self._lost(name, error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in self.trackers.items():
            try:
                tracker.close()
            except Exception as problem:
                self._lost(name, problem)
        self.trackers = {}

    def take(self, row: Mapping[str, Any]) -> None:
        """Hand a row that has been written to every tracker that is left."""
        for name, tracker in list(self.trackers.items()):
            try:
                tracker.take(row)
            except Exception as error:
                del self.trackers[name]
                self._lost(name, error)

    def _lost(self, name: str, error: Exception) -> None:
        said = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(
            f"{name} is lost ({said}); {self.run} goes on without it, and its {self.metrics.name} has every row.",
            TrackerWarning,
            stacklevel=4,
        )


def check_installed(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        UserError: with what to install.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            remedy = "run: pip install 'addnorm[track]', or leave it out with --track none."
            raise UserError(f"track={name} needs the package {name}; {remedy}")
