"""Checkpoints: folders written whole or not at all, and checked before they are read.

    step-00000100/model.safetensors      weights and buffers
                  optimizer.safetensors  moments and step counts by parameter name, and torch's random state
                  state.json             step, tokens, clock, counters; which weights are tied
                  manifest.json          SHA-256 of each of the others
    last, best                           text files, each the name of a folder

The names in `last` and `best` are held against what the checkpoints themselves say of their step and their loss: a lost
or wrong name is told, and the best checkpoint is found without it.

Nothing is unpickled: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from addnorm.errors import UserError
from addnorm.files import sha256, sync, write_atomically, write_json
from addnorm.json_file import read_bytes, read_object
from addnorm.manifest import fault, listed

WEIGHTS, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
POINTERS = ("last", "best")
LONGEST_NAME = 100


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged and an older one is taken."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is saved of a run, in memory."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run's folder.

    Args:
        folder: `RUN/checkpoints`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The folders' names, oldest first; unfinished ones have other names."""
        return sorted(path.name for path in self.folder.glob("step-*") if path.is_dir())

    def save(self, checkpoint: Checkpoint, *, best: bool) -> str:
        """Write a checkpoint, point `last` (and `best`) to it, and delete those that nothing points to.

        The one before the last stays too: it is what a damaged last one falls back to.

        Raises:
            UserError: the disk is full or the folder cannot be written; older checkpoints are untouched.
        """
        name = f"step-{checkpoint.state['step']:08d}"
        try:
            self._write(name, checkpoint)
            write_atomically(self.folder / "last", name + "\n")
            if best:
                write_atomically(self.folder / "best", name + "\n")
        except (OSError, SafetensorError) as error:
            if not self.folder.parent.exists():
                raise UserError(
                    f"{self.folder.parent} was removed, so checkpoint {name} is lost; train anew."
                ) from error
            kept = self.names()
            hint = f"{kept[-1]} is intact" if kept else "there is no older one"
            raise UserError(
                f"checkpoint {name} cannot be written to {self.folder} ({reason(error)}); {hint}: "
                "make room, then resume the run."
            ) from error
        self._prune()
        return name

    def load(self, prefer: str = "last") -> tuple[Checkpoint, dict[str, str]] | None:
        """The last or the best checkpoint, as `prefer` says, or the newest that is whole.

        Returns:
            The checkpoint, and what is wrong with each that was passed over, and with a pointer; None when there is no
            checkpoint at all.

        Raises:
            UserError: there are checkpoints and all are damaged.
        """
        names = self.names()
        wanted, faults = self._wanted(prefer, names)
        for name in dict.fromkeys([*wanted, *reversed(names)]):
            found = self.fault(name)
            if found is None:
                try:
                    return _read(self.folder / name), faults
                except (OSError, SafetensorError, ValueError, TypeError) as error:
                    found = f"it is no checkpoint, though it is as it was written: {error}"
            faults[name] = found
        if names:
            raise UserError(f"no checkpoint in {self.folder} can be read ({listed(faults)}); start the run afresh.")
        return None

    def fault(self, name: str) -> str | None:
        """What is wrong with a checkpoint's files; None when all are what the manifest says."""
        folder = self.folder / name
        try:
            manifest = read_object(folder / MANIFEST)
        except FileNotFoundError:
            return f"{MANIFEST} is missing"
        except (OSError, ValueError) as error:
            return f"{MANIFEST} cannot be read: {error}"
        for file in (WEIGHTS, OPTIMIZER, STATE):
            found = fault(folder / file, str(manifest.get(file)))
            if found is not None:
                return f"{file}: {found}"
        return None

    def set_aside(self, name: str) -> None:
        """Keep a damaged checkpoint out of the way, under another name."""
        aside = self.folder / f"damaged-{name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(self.folder / name, aside)

    def sweep(self) -> None:
        """Delete what a crash left half written or half deleted."""
        for pattern in (".*.part", ".*.gone"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def mend_pointers(self) -> None:
        """Have `last` and `best` name what they should, where the checkpoints say it.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        names = self.names()
        for pointer in POINTERS:
            wanted, faults = self._wanted(pointer, names)
            if faults and wanted:
                write_atomically(self.folder / pointer, wanted[0] + "\n")

    def _wanted(self, pointer: str, names: list[str]) -> tuple[list[str], dict[str, str]]:
        """What a pointer should lead to, the likeliest first, and what is wrong with the pointer."""
        pointed = self._pointed(pointer)
        if not names:
            return [], {}
        if pointer == "last":
            # A crash may leave a checkpoint that nothing names yet; it is newer, and as good.
            return names[-1:], {} if pointed in names else {"last": "it names no checkpoint"}
        states = {name: state for name in names if (state := self._state(name)) is not None}
        told = _best(states)
        if pointed in names and (pointed in told or not told or pointed not in states):
            return [pointed, *told[-1:]], {}
        if told:
            return told[-1:], {"best": f"it does not name {told[-1]}, the best by what the checkpoints say"}
        none_yet = pointed is None and all(_lowest(state) == math.inf for state in states.values())
        return [], {} if none_yet and _has_counters(states) else {"best": "it names no checkpoint"}

    def _state(self, name: str) -> dict[str, Any] | None:
        """A checkpoint's state, if it is as it was written."""
        folder = self.folder / name
        try:
            digest = str(read_object(folder / MANIFEST).get(STATE))
            return read_object(folder / STATE) if fault(folder / STATE, digest) is None else None
        except (OSError, ValueError):
            return None

    def _pointed(self, pointer: str) -> str | None:
        """What stands in a pointer; None where there is none, "" where it cannot be read."""
        try:
            return read_bytes(self.folder / pointer, LONGEST_NAME).decode().strip()
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return ""

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        self.folder.mkdir(exist_ok=True)  # not its parents: who removed the run's folder wants none of it back
        part = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{name}.", suffix=".part"))
        try:
            os.chmod(part, 0o755)
            save_file(checkpoint.weights, part / WEIGHTS)
            save_file(checkpoint.optimizer, part / OPTIMIZER)
            for file in (WEIGHTS, OPTIMIZER):
                os.chmod(part / file, 0o644)
                sync(part / file)
            write_json(part / STATE, checkpoint.state)
            write_json(part / MANIFEST, {file: sha256(part / file) for file in (WEIGHTS, OPTIMIZER, STATE)})
            self._remove(name)  # of the same step: damaged, or the same
            os.replace(part, self.folder / name)
            sync(self.folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _prune(self) -> None:
        names = self.names()
        kept = {*names[-2:], *self._wanted("last", names)[0][:1], *self._wanted("best", names)[0][:1]}
        for name in names:
            if name not in kept:
                self._remove(name)

    def _remove(self, name: str) -> None:
        """Rename, then delete, so that a crash leaves no half checkpoint under a checkpoint's name."""
        if (self.folder / name).exists():
            gone = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{name}.", suffix=".gone"))
            os.replace(self.folder / name, gone / name)
            shutil.rmtree(gone, ignore_errors=True)


def reason(error: Exception) -> str:
    """Why the system refused, in its own words."""
    return getattr(error, "strerror", None) or str(error)


def _read(folder: Path) -> Checkpoint:
    state = read_object(folder / STATE)
    if not isinstance(state.get("step"), int) or not isinstance(state.get("ties"), dict):
        raise ValueError(f"{STATE} has no step or no ties")
    return Checkpoint(weights=load_file(folder / WEIGHTS), optimizer=load_file(folder / OPTIMIZER), state=state)


def _best(states: Mapping[str, dict[str, Any]]) -> list[str]:
    """The checkpoints that were the best when they were written and have not been undercut since; two may be equal."""
    lowest = min(map(_lowest, states.values()), default=math.inf)
    return [name for name, state in states.items() if _was_best(state) and _lowest(state) == lowest]


def _was_best(state: dict[str, Any]) -> bool:
    """Whether a checkpoint was evaluated when it was written, and was the best by then."""
    counters = state.get("counters")
    if not isinstance(counters, dict) or counters.get("validation_step") != counters.get("step"):
        return False
    return counters.get("validation_loss") == counters.get("best_loss") and math.isfinite(_lowest(state))


def _lowest(state: dict[str, Any]) -> float:
    """The lowest validation loss of a checkpoint, when this one was written."""
    counters = state.get("counters")
    lowest = counters.get("best_loss") if isinstance(counters, dict) else None
    return float(lowest) if isinstance(lowest, (int, float)) else math.inf


def _has_counters(states: Mapping[str, dict[str, Any]]) -> bool:
    return bool(states) and all(isinstance(state.get("counters"), dict) for state in states.values())
