"""A run's folder: what stands in it, when it may be written, and how it is read back.

    config.json       the RunConfig            environment.json  versions, processor, threads
    run.json          fingerprint and measurements of the model at the start
    metrics.jsonl     one row an event, append-only
    checkpoints/      see `addnorm.training.checkpoint`
    tokenizer.json    what turns text into the model's tokens
    result.json       only when the run has ended by itself
    manifest.json     SHA-256 of the files that the run is read from: see `addnorm.manifest`

On resume, rows of metrics.jsonl that stand behind the checkpoint are taken out, by rewriting the file whole, before the
first new row: every row is of the run that led to the weights, and none comes twice. Each row carries a checksum, and
each checkpoint says what stood in metrics.jsonl when it was written.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from addnorm.config import RunConfig
from addnorm.consent import consented
from addnorm.errors import UserError, unknown
from addnorm.files import json_text, write_atomically
from addnorm.json_file import read_object
from addnorm.manifest import FILE as MANIFEST
from addnorm.manifest import DamageWarning, Manifest
from addnorm.specification import files_in
from addnorm.tracking.tracking import Tracking
from addnorm.training.checkpoint import Checkpoints, reason
from addnorm.training.identity import differences
from addnorm.training.lock import FolderLock
from addnorm.training.metrics import FILE as METRICS
from addnorm.training.metrics import Metrics

MOST_NAMED = 12
"""Runs of a comparison that an error names."""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.lock = FolderLock(self.path)
        self.manifest = Manifest(self.path)
        self.metrics = Metrics(self.path / METRICS)
        self.watchers: list[Callable[[dict[str, Any]], None]] = []

    def check(self, config: RunConfig, *, resume: bool) -> None:
        """Refuse a folder that another run has, and a changed config.

        Raises:
            UserError: it holds something and `resume` is False, is no run's folder, or has another config.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; name a folder for the run.")
        if not self.path.exists() or self._is_empty():
            return
        if not resume:
            raise UserError(f"{self.path} exists already; resume it, or name another folder.")
        if not (self.path / "config.json").exists():
            raise UserError(f"{self.path} is no run's folder (it has no config.json); name another folder.")
        self._restore_config(config)
        changed = differences(self._as_called(config), config)
        if changed:
            raise UserError(
                f"{self.path} was started with another config: {'; '.join(changed)}. "
                "Resume with the config it has, or name another folder."
            )

    def _as_called(self, config: RunConfig) -> RunConfig:
        """The stored config, with the paths by which a call names its Python files; these must not have changed."""
        stored, code = self.config(), self.code()
        called: dict[str, Any] = {
            name: consented(getattr(stored, name), getattr(config, name), self.path, f"--{name}", code)
            for name in ("task", "scheme")
            if files_in(getattr(stored, name)) and files_in(getattr(config, name))
        }
        return replace(stored, **called)

    def code(self) -> dict[str, str]:
        """The SHA-256 of the Python files that the run was started with; empty where that was not written yet."""
        try:
            found = read_object(self.path / "run.json").get("code", {})
        except (OSError, ValueError):  # what is damaged the manifest tells
            return {}
        return found if isinstance(found, dict) else {}

    def create(self, config: RunConfig, environment: dict[str, Any]) -> None:
        """Write what is known before the first step.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            self._write({"config.json": asdict(config), "environment.json": environment})
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({reason(error)}); name a folder you may write.") from error

    def _restore_config(self, config: RunConfig) -> None:
        """Write a damaged config.json anew, if the caller's config is the one that was written."""
        path, fault = self.path / "config.json", self.faults().get("config.json")
        if fault is None:
            return
        if hashlib.sha256(json_text(asdict(config)).encode()).hexdigest() != self.manifest.entries()["config.json"]:
            raise UserError(
                f"{path}: {fault}, and the config given is not what was written either; "
                "put it back, or name another folder."
            )
        self.write("config.json", asdict(config))
        warnings.warn(f"{path}: {fault}; written anew.", DamageWarning, stacklevel=4)

    def note_reader(self, save_reader: Callable[[Path], None]) -> None:
        """Write down what the reader's files are: tokenizer.json, and what else a task keeps.

        Args:
            save_reader: writes the reader's files into a folder, which tells their names.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="addnorm-reader-") as folder:
                save_reader(Path(folder))
                names = {path.name for path in Path(folder).iterdir()}
            self.manifest.note_files({name for name in names if (self.path / name).is_file()})
        except OSError as error:
            raise self._full(error) from error

    def note_changed(self) -> None:
        """Write down anew what the files are that a task has just changed: a threshold that was chosen on validation.

        Raises:
            OSError: the folder cannot be written.
        """
        faults = self.faults()
        if faults and MANIFEST not in faults:
            self.manifest.note_files({name for name in faults if (self.path / name).is_file()})

    def faults(self) -> dict[str, str]:
        """What is wrong with the files beside the checkpoints, by name.

        A result that the manifest awaits and that is not there was being written when the process was killed.
        """
        found = self.manifest.faults()
        if not (self.path / "result.json").exists():
            found = {name: text for name, text in found.items() if name not in ("result.json", METRICS)}
        return found

    def has_diverged(self) -> bool:
        """Whether the run ended by diverging, as far as it says."""
        path = self.path / "result.json"
        try:
            result = read_object(path) if path.exists() else {}
        except (OSError, ValueError):  # for the record: it says how the run ended, and no more
            return False
        diagnosis = result.get("diagnosis")
        return "diverged" in (result.get("status"), diagnosis.get("kind") if isinstance(diagnosis, dict) else None)

    def config(self) -> RunConfig:
        """The config that the run was started with.

        Raises:
            UserError: there is none, or it is damaged.
        """
        values = self.read("config.json")
        allowed = {field.name for field in fields(RunConfig)}
        for name in values:
            if name not in allowed:
                raise unknown(f"field of {self.path / 'config.json'}", name, allowed)
        try:
            return RunConfig(**values)
        except UserError as error:
            raise UserError(f"{self.path / 'config.json'}: {error}") from error

    def _unreadable(self, name: str, error: Exception) -> str:
        """Why a file of the folder is not there to be read, in words."""
        if not self.path.exists():
            return f"{self.path} does not exist"
        if not self.path.is_dir():
            return f"{self.path} is a file"
        if not (self.path / name).exists():
            inside = self._within()
            return (
                f"{self.path} is a comparison; its runs are {inside}"
                if inside
                else (f"{self.path} is no run's folder (it has no {name})")
            )
        return f"{self.path / name} cannot be read ({reason(error)})"

    def _within(self) -> str:
        """The runs of a comparison, where that is what the folder holds."""
        found = sorted(str(path.parent) for path in self.path.glob("runs/*/*/config.json"))
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return ", ".join(found[:MOST_NAMED]) + more

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            UserError: it is missing or damaged.
        """
        try:
            return read_object(self.path / name)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._unreadable(name, error)}; give the folder of a run, as train leaves it."
            ) from error

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file of the folder.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            self._write({name: value})
        except OSError as error:
            raise self._full(error) from error

    def end(self, result: dict[str, Any]) -> None:
        """Write the result, with what the metrics are at the end.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            if (self.path / METRICS).exists():
                self.manifest.note_files({METRICS})
            self._write({"result.json": result})
        except OSError as error:
            raise self._full(error) from error

    def append(self, row: dict[str, Any]) -> None:
        """Append one row to the metrics, and tell those who watch.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            self.metrics.append(row)
        except OSError as error:
            raise self._full(error) from error
        for watcher in self.watchers:
            watcher(row)

    def tracking(self, config: RunConfig) -> Tracking:
        """The trackers that mirror the rows while it is entered."""
        return Tracking(config.track or (), self.path, self.metrics.path, asdict(config))

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the metrics."""
        return self.metrics.rows()

    def rewind(self, step: int, mark: object = None) -> None:
        """Take out the rows that a resume at `step` will write again, and a torn last line.

        Args:
            step: of the checkpoint that the run goes on from.
            mark: what that checkpoint says of the metrics, as `Metrics.mark` gave it.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            fault = self.metrics.rewind(step, mark)
        except OSError as error:
            raise self._full(error) from error
        if fault:
            warnings.warn(f"{self.path / METRICS}: {fault}", DamageWarning, stacklevel=5)

    def _write(self, contents: Mapping[str, Any]) -> None:
        """Write JSON files; what they shall be is noted first."""
        texts = {name: json_text(value) for name, value in contents.items()}
        self.manifest.note({name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()})
        for name, text in texts.items():
            write_atomically(self.path / name, text)

    def _is_empty(self) -> bool:
        """Hidden files are what a crash left half written; a list without a file was written just before one."""
        try:
            return all(path.name.startswith(".") or path.name == MANIFEST for path in self.path.iterdir())
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({reason(error)}); name a folder you may write.") from error

    def _full(self, error: OSError) -> UserError:
        kept = self.checkpoints.names()
        hint = f"checkpoint {kept[-1]} is intact" if kept else "no checkpoint was written yet"
        return UserError(f"{self.path} cannot be written ({reason(error)}); {hint}: make room, then resume the run.")
