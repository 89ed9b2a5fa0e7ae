"""What stands in a folder of runs: trainings and comparisons, read from their small files; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from addnorm.errors import UserError, unknown
from addnorm.json_file import read_object
from addnorm.training.lock import is_locked
from addnorm.training.metrics import FILE as METRICS

DEEPEST = 3
"""Folders within folders that are looked into; a comparison's own runs belong to it and are not counted."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A training run, or a comparison of many.

    Args:
        path: its folder.
        kind: which of the two.
        task, schemes, layers: what is trained.
        status: "running", "unfinished", how it ended, or how many runs of a comparison have.
        loss: the last validation loss; of a comparison the lowest mean of an arm.
        bytes: of all its files.
        written: when its training last wrote, in seconds since 1970; an evaluation or a report changes nothing.
    """

    path: Path
    kind: Literal["run", "comparison"]
    task: str
    schemes: tuple[str, ...]
    layers: tuple[int, ...]
    status: str
    loss: float | None
    bytes: int
    written: float


def stored_runs(home: Path) -> list[StoredRun]:
    """All runs and comparisons of a folder, the newest first.

    Raises:
        UserError: the folder does not exist.
    """
    if not home.is_dir():
        raise UserError(f"{home} is no folder here; train a model (addnorm train), or name the folder that holds runs.")
    return sorted(map(_read, _folders(home, DEEPEST)), key=lambda found: found.written, reverse=True)


def runs_within(comparison: Path) -> list[StoredRun]:
    """The runs of a comparison, by arm and seed."""
    return [_run(path.parent) for path in sorted(comparison.glob("runs/*/*/config.json"))]


def stored_run(named: Path, home: Path) -> StoredRun:
    """The run or the comparison of a path, or of a name in the folder of runs.

    Raises:
        UserError: there is none, or more than one.
    """
    for path in (named, home / named):
        if _kind(path) is not None:
            return _read(path if path.name not in ("", "..") else path.resolve())
    found = _folders(home, DEEPEST)
    same = [path for path in found if path.name == named.name and len(named.parts) == 1]
    if len(same) > 1:
        raise UserError(f"{named} is the name of {len(same)} runs; name its folder: {', '.join(map(str, same))}.")
    if not same:
        names = [str(path.relative_to(home)) for path in found]
        raise (
            unknown("run", str(named), names, "; `addnorm runs` lists all")
            if names
            else UserError(f"{named} is no run, and {home} holds none.")
        )
    return _read(same[0])


def comparison_of(path: Path) -> Path | None:
    """The comparison that a run is a part of."""
    whole = path.resolve().parents[2:3]
    return next((folder for folder in whole if _kind(folder) == "comparison"), None)


def _folders(home: Path, depth: int) -> list[Path]:
    found = []
    for path in sorted(home.iterdir()) if os.access(home, os.R_OK | os.X_OK) else []:
        if not path.is_dir() or path.name.startswith("."):
            continue
        if _kind(path) is not None:
            found.append(path)
        elif depth > 1 and not path.is_symlink():
            found += _folders(path, depth - 1)
    return found


def _kind(path: Path) -> Literal["run", "comparison"] | None:
    if (path / "spec.json").is_file():
        return "comparison"
    noted = (path / "manifest.json").is_file() or (path / "run.json").is_file()
    return "run" if noted and (path / "config.json").is_file() else None


def _read(path: Path) -> StoredRun:
    return _comparison(path) if _kind(path) == "comparison" else _run(path)


def _run(path: Path) -> StoredRun:
    config, result = _object(path / "config.json"), _object(path / "result.json")
    return StoredRun(
        path=path,
        kind="run",
        task=str(config.get("task", "?")),
        schemes=(str(config.get("scheme", "?")),),
        layers=(_whole(config.get("num_layers")),),
        status=str(result.get("status") or _unended(path)),
        loss=_number(result.get("validation_loss")),
        bytes=_size(path),
        written=_last_written(path / name for name in ("config.json", METRICS, "result.json")),
    )


def _comparison(path: Path) -> StoredRun:
    spec, results = _object(path / "spec.json"), _object(path / "results.json")
    within = [folder.parent for folder in path.glob("runs/*/*/config.json")]
    ended = sum((folder / "result.json").is_file() for folder in within)
    arms = [arm for arm in results.get("arms", []) if isinstance(arm, Mapping)]
    losses = [_number(_mapping(arm.get("validation_loss")).get("mean")) for arm in arms]
    lists = {name: _list(spec.get(name)) for name in ("schemes", "layers", "learning_rates")}
    planned = _whole(spec.get("seeds"))
    for values in lists.values():
        planned *= max(len(values), 1)
    busy = any(is_locked(folder) for folder in within if not (folder / "result.json").is_file())
    state = "running" if busy else "unfinished"
    failed = len(_list(results.get("failures")))
    done = f"finished, {failed} failed" if failed else "finished"
    return StoredRun(
        path=path,
        kind="comparison",
        task=str(spec.get("task", "?")),
        schemes=tuple(map(str, lists["schemes"])),
        layers=tuple(map(_whole, lists["layers"])),
        status=done if results else f"{state}, {ended} of {planned} runs",
        loss=min((loss for loss in losses if loss is not None), default=None),
        bytes=_size(path),
        written=_last_written([path / "spec.json", *(folder / METRICS for folder in within)]),
    )


def _unended(path: Path) -> str:
    return "running" if is_locked(path) else "unfinished"


def _size(path: Path) -> int:
    """Bytes of all files; what vanishes meanwhile does not count."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += (Path(folder) / name).stat(follow_symlinks=False).st_size
    return total


def _last_written(files: Iterable[Path]) -> float:
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def _object(path: Path) -> dict[str, Any]:
    """A JSON file; nothing where it is missing or damaged, which `addnorm evaluate` says and a list need not."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
