"""The folder of a comparison.

    spec.json                        what is compared
    code.json                        SHA-256 of the Python files that the task and the schemes are of, if any
    runs/<arm>/seed-<k>/             one training run each, as training writes it
    results.json                     what came out

A run whose `result.json` says that it ended is never trained again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from addnorm.consent import check_unchanged, code_of
from addnorm.errors import UserError
from addnorm.files import finite, write_json
from addnorm.json_file import read_object
from addnorm.studies.spec import CompareConfig, Run
from addnorm.training.checkpoint import Checkpoints
from addnorm.training.identity import FREE
from addnorm.training.run_folder import RunFolder

# How a run can end so that training it again would give the same.
ENDED = ("finished", "stopped early", "diverged")
# May differ on resume: what is trained does not depend on it.
FREE_FIELDS = ("workers", *FREE)
CODE = "code.json"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run left in its folder."""

    seed: int
    about: dict[str, Any]
    """Its `run.json`."""
    result: dict[str, Any]
    """Its `result.json`."""
    rows: list[dict[str, Any]]
    """Its `metrics.jsonl`."""

    def of_event(self, event: str) -> list[dict[str, Any]]:
        """The rows of one event."""
        return [row for row in self.rows if row["event"] == event]


class Store:
    """The folder of one comparison."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code: dict[str, str] = {}

    @classmethod
    def open(cls, folder: Path, spec: CompareConfig, *, resume: bool) -> Store:
        """A new folder, or with `resume` one that holds the same comparison.

        Raises:
            UserError: the folder is not empty and `resume` was not asked; there is nothing to resume; it holds another
                comparison.
        """
        store = cls(folder)
        store.code = code_of(spec.task, *spec.schemes)
        store.check(spec, resume=resume)
        if not resume:
            if store.code:
                write_json(folder / CODE, store.code)
            write_json(folder / "spec.json", asdict(spec))
        return store

    def check(self, spec: CompareConfig, *, resume: bool) -> None:
        """Refuse what `open` refuses; nothing is written.

        Raises:
            UserError: as there.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; give a folder for the comparison.")
        if resume:
            self._check_same(spec)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"{self.folder} exists already; give another folder, or --resume to continue it.")

    def run_folder(self, run: Run) -> Path:
        """Where a run lives."""
        return self.folder / "runs" / run.name

    def has_ended(self, run: Run) -> bool:
        """Whether the run needs no more training."""
        result = self._result(run)
        return result is not None and result.get("status") in ENDED and not self._faults(run)

    def prepare(self, run: Run) -> bool:
        """Whether training can go on from a checkpoint; a folder that has none is cleared for a fresh start."""
        folder = self.run_folder(run)
        if (folder / "checkpoints" / "last").exists() or Checkpoints(folder / "checkpoints").names():
            return True
        if folder.exists():
            shutil.rmtree(folder)
        return False

    def record(self, run: Run) -> RunRecord | None:
        """What an ended run left; None for one that has not ended."""
        return record_of(self.run_folder(run), run.config.seed)

    def environment(self, run: Run) -> dict[str, Any]:
        """The machine and versions that a run saw."""
        return _read(self.run_folder(run) / "environment.json") or {}

    def write_results(self, results: dict[str, Any]) -> None:
        """Store what came out."""
        write_json(self.folder / "results.json", results)

    def _result(self, run: Run) -> dict[str, Any] | None:
        return _read(self.run_folder(run) / "result.json")

    def _faults(self, run: Run) -> dict[str, str]:
        """What of a run that ended is not as it was written: training goes on from its last checkpoint, and says so."""
        return RunFolder(self.run_folder(run)).faults()

    def _check_same(self, spec: CompareConfig) -> None:
        path = self.folder / "spec.json"
        if not path.exists():
            raise UserError(f"{self.folder} holds no comparison to resume; leave out --resume to start one there.")
        try:
            stored = read_object(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not readable JSON ({error}); start anew in another folder.") from error
        # A field that came into being later had its default.
        stored = {field.name: field.default for field in fields(CompareConfig) if field.name not in stored} | stored
        changes = differences(_as_json(stored), _as_json(asdict(spec)))
        if changes:
            raise UserError(
                f"{self.folder} holds another comparison: {'; '.join(changes)}. "
                "Resume with the stored values, or start anew in another folder."
            )
        check_unchanged(_read(self.folder / CODE) or {}, self.folder)


def record_of(folder: Path, seed: int) -> RunRecord | None:
    """What a run left in its folder; None where none has ended there, or a file is not as it was written."""
    result, run = _read(folder / "result.json"), RunFolder(folder)
    if result is None or result.get("status") not in ENDED or run.faults():
        return None
    rows = _restored(run.rows())
    return RunRecord(seed=seed, about=_restored(run.read("run.json")), result=_restored(result), rows=rows)


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What differs between a stored specification and one that is asked for, field by field.

    >>> differences({"seeds": 3, "workers": 2}, {"seeds": 5, "workers": 1})
    ['seeds is 3 there and 5 here']
    """
    names = [name for name in {**stored, **asked} if name not in FREE_FIELDS]
    return [
        f"{name} is {_shown(stored, name)} there and {_shown(asked, name)} here"
        for name in names
        if stored.get(name, ...) != asked.get(name, ...)
    ]


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(finite(dict(values))))


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "not given"


def _read(path: Path) -> dict[str, Any] | None:
    """What a file of a run holds; None if it is missing or damaged."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return None


def _restored(value: Any) -> Any:
    """The same nested value with 'nan' and 'inf' as numbers again, where `addnorm.files.finite` made them strings."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return value
