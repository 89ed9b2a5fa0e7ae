"""A run's folder: what stands in it, when it may be written, and how it is read back.

    config.json       the RunConfig            environment.json  versions, processor, threads
    run.json          fingerprint and measurements of the model at the start
    metrics.jsonl     one row an event, append-only
    checkpoints/      see `addnorm.training.checkpoint`
    tokenizer.json    what turns text into the model's tokens
    result.json       only when the run has ended by itself

On resume, rows of metrics.jsonl that stand behind the checkpoint are taken out, by rewriting the file whole, before the
first new row: every row is of the run that led to the weights, and none comes twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from addnorm.config import RunConfig
from addnorm.errors import UserError, unknown
from addnorm.files import append_json_line, finite, read_json_lines, write_atomically, write_json
from addnorm.training.checkpoint import Checkpoints, reason
from addnorm.training.lock import FolderLock


class RunFolder:
    """The files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.lock = FolderLock(self.path)
        self._metrics = self.path / "metrics.jsonl"

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
        changed = differences(self.config(), config)
        if changed:
            raise UserError(
                f"{self.path} was started with another config: {'; '.join(changed)}. "
                "Resume with the config it has, or name another folder."
            )

    def create(self, config: RunConfig, environment: dict[str, Any]) -> None:
        """Write what is known before the first step.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            write_json(self.path / "config.json", asdict(config))
            write_json(self.path / "environment.json", environment)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({reason(error)}); name a folder you may write.") from error

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
        return RunConfig(**values)

    def _unreadable(self, name: str, error: Exception) -> str:
        """Why a file of the folder is not there to be read, in words."""
        if not self.path.exists():
            return f"{self.path} does not exist"
        if not self.path.is_dir():
            return f"{self.path} is a file"
        if not (self.path / name).exists():
            return f"{self.path} is no run's folder (it has no {name})"
        return f"{self.path / name} cannot be read ({reason(error)})"

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            UserError: it is missing or damaged.
        """
        try:
            value = json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._unreadable(name, error)}; give the folder of a run, as train leaves it."
            ) from error
        if not isinstance(value, dict):
            raise UserError(f"{self.path / name} holds no JSON object; it is damaged.")
        return value

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file of the folder.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            write_json(self.path / name, value)
        except OSError as error:
            raise self._full(error) from error

    def append(self, row: dict[str, Any]) -> None:
        """Append one row to the metrics.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        try:
            append_json_line(self._metrics, row)
        except OSError as error:
            raise self._full(error) from error

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the metrics."""
        return read_json_lines(self._metrics) if self._metrics.exists() else []

    def rewind(self, step: int) -> None:
        """Take out the rows that a resume at `step` will write again, and a torn last line."""
        kept = [row for row in self.rows() if _stands(row, step)]
        lines = "".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in kept)
        try:
            write_atomically(self._metrics, lines)
        except OSError as error:
            raise self._full(error) from error

    def _is_empty(self) -> bool:
        """Hidden files are what a crash left half written."""
        try:
            return all(path.name.startswith(".") for path in self.path.iterdir())
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({reason(error)}); name a folder you may write.") from error

    def _full(self, error: OSError) -> UserError:
        kept = self.checkpoints.names()
        hint = f"checkpoint {kept[-1]} is intact" if kept else "no checkpoint was written yet"
        return UserError(f"{self.path} cannot be written ({reason(error)}); {hint}: make room, then resume the run.")


FREE = ("memory",)
"""Fields that change no result: a resumed run may have others."""


def fingerprint(config: RunConfig, data: str, start: str = "") -> str:
    """SHA-256 of the config, of the data's fingerprint, and of that of the weights that a run starts from, if any.

    It is equal exactly when two runs are the same experiment; how much they remember on the way changes no result.
    """
    values = {name: value for name, value in asdict(config).items() if name not in FREE}
    text = json.dumps([values, data, *([start] if start else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """The fields that changed, as `field: old -> new`.

    >>> differences(RunConfig(seed=1), RunConfig(seed=2))
    ['seed: 1 -> 2']
    """
    before, after = asdict(old), asdict(new)
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name in before
        if before[name] != after[name] and name not in FREE
    ]


def _stands(row: dict[str, Any], step: int) -> bool:
    """Whether a row was written before the checkpoint of `step`."""
    if row["event"] == "end":
        return False
    # Signals carry the number of updates before the step they were measured in; other rows, that after it.
    return row["step"] < step if row["event"] == "signal" else row["step"] <= step
