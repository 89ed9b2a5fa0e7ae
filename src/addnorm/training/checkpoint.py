"""Checkpoints: folders written whole or not at all, and checked before they are read.

    step-00000100/model.safetensors      weights and buffers
                  optimizer.safetensors  moments and step counts by parameter name, and torch's random state
                  state.json             step, tokens, clock, counters; which weights are tied
                  manifest.json          SHA-256 of each of the others
    last, best                           text files, each the name of a folder

Nothing is unpickled: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from addnorm.errors import UserError
from addnorm.files import sha256, sync, write_atomically, write_json

WEIGHTS, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"


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
        """The checkpoint that `prefer` ("last" or "best") points to, or the newest that is whole.

        Returns:
            The checkpoint, and what is wrong with each that was passed over; None when there is no checkpoint at all.

        Raises:
            UserError: there are checkpoints and all are damaged.
        """
        names = self.names()
        pointed = self._pointed(prefer)
        order = ([pointed] if pointed in names else []) + [name for name in reversed(names) if name != pointed]
        faults: dict[str, str] = {}
        for name in order:
            fault = self.fault(name)
            if fault is None:
                return _read(self.folder / name), faults
            faults[name] = fault
        if faults:
            listed = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
            raise UserError(f"no checkpoint in {self.folder} can be read ({listed}); start the run afresh.")
        return None

    def fault(self, name: str) -> str | None:
        """What is wrong with a checkpoint's files; None when all are what the manifest says."""
        folder = self.folder / name
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            for file in (WEIGHTS, OPTIMIZER, STATE):
                if sha256(folder / file) != manifest[file]:
                    return f"{file} has another SHA-256 than when it was written"
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{MANIFEST} cannot be read: {error}"
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

    def _pointed(self, pointer: str) -> str | None:
        try:
            return (self.folder / pointer).read_text().strip()
        except (OSError, ValueError):
            return None

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
        kept = {*names[-2:], self._pointed("last"), self._pointed("best")}
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
    return Checkpoint(
        weights=load_file(folder / WEIGHTS),
        optimizer=load_file(folder / OPTIMIZER),
        state=json.loads((folder / STATE).read_text()),
    )
