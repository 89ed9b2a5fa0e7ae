"""Measures rows one after the other and stores each as soon as it is done."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from addnorm.bench import name_of, names, parse
from addnorm.bench.peers import PEERS
from addnorm.bench.row import Figure, OnProgress, Row
from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.kernels import native
from addnorm.probes.machine import free_memory_bytes, load_average, measure, usable_cores
from addnorm.training.environment import describe
from addnorm.version import __version__

THREADS = 1


@dataclass(frozen=True, kw_only=True)
class BenchProgress:
    """Where a benchmark stands."""

    row: str
    number: int
    count: int
    share: float
    """How much of this row is measured."""


def chosen(wanted: Sequence[str], *, quick: bool = False, rounds: int | None = None) -> list[Row]:
    """The rows of these names in the order of the table; all without a name.

    Args:
        wanted: names, with fields if need be.
        quick: at a size that takes seconds.
        rounds: instead of each row's own number.

    Raises:
        UserError: no row has one of the names, or the rounds are no number from 1.
    """
    rows = sorted((parse(text) for text in dict.fromkeys(wanted or names())), key=lambda row: row.number)
    rows = [type(row).quick() if quick else row for row in rows]
    return rows if rounds is None else [replace(row, rounds=rounds) for row in rows]


def run(
    rows: Sequence[Row], file: Path, command: str, on_progress: Callable[[BenchProgress], None] = lambda now: None
) -> dict[str, Any]:
    """Measure the rows and store them in the file; other rows in it are kept.

    Args:
        rows: what to measure.
        file: JSON.
        command: what was asked, as typed.
        on_progress: is told where it stands.

    Returns:
        What the file holds.

    Raises:
        UserError: the file holds something else.
    """
    stored: dict[str, Any] = load(file) if file.exists() else {"rows": []}
    with _one_thread():
        # Small sizes are no measurement, so the machine is not measured for them either.
        machine = machine_now(rates=not all(_is_quick(row) for row in rows))
        for number, row in enumerate(rows, start=1):

            def tell(share: float, row: Row = row, number: int = number) -> None:
                on_progress(BenchProgress(row=name_of(row), number=number, count=len(rows), share=share))

            tell(0.0)
            kept = {item["name"]: item for item in stored["rows"]} | {name_of(row): outcome(row, command, tell)}
            stored = {
                "addnorm": __version__,
                "created": _now(),
                "command": command,
                "machine": machine,
                "peers": {peer.package: peer.version for peer in PEERS},
                "rows": sorted(kept.values(), key=lambda item: item["number"]),
            }
            write_json(file, stored)
    return load(file)


def outcome(row: Row, command: str, progress: OnProgress = lambda share: None) -> dict[str, Any]:
    """One row with what was measured, as plain data."""
    gc.collect()  # or the last row's models would be collected in the midst of this one
    load_before, began = load_average(), time.perf_counter()
    result = row.measure(progress)
    return {
        **described(row),
        "command": command,
        "created": _now(),
        "quick": _is_quick(row),
        "threads": torch.get_num_threads(),
        "load_before": load_before,
        "wall_s": time.perf_counter() - began,
        "figures": [_figure(figure) for figure in result.figures],
        "missing": list(result.missing),
        "rounds": {name: asdict(times) for name, times in result.rounds.items()},
    }


def described(row: Row) -> dict[str, Any]:
    """What a row asks and at what size, as plain data."""
    return {
        "name": name_of(row),
        "number": row.number,
        "title": row.title,
        "measures": row.measures,
        "size": asdict(row),
    }


def machine_now(*, rates: bool) -> dict[str, Any]:
    """Processor, versions, and how fast it computes where that is asked for."""
    about = describe() | {"cores": usable_cores(), "memory_bytes": free_memory_bytes(), "kernels": native.status()}
    return about | ({"rates": asdict(measure())} if rates else {})


def load(file: Path) -> dict[str, Any]:
    """What a file holds.

    Raises:
        UserError: it cannot be read, or is no benchmark.
    """
    try:
        stored = read_object(file)
        return {**stored, "rows": [dict(item, name=item["name"], number=item["number"]) for item in stored["rows"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a file of `addnorm bench` ({error}); give another with --out.") from error


def _is_quick(row: Row) -> bool:
    """Whether it has the small size, whose figures mean nothing, at any number of rounds."""
    small, usual = (replace(one, rounds=1) for one in (type(row).quick(), type(row)()))
    return replace(row, rounds=1) == small != usual


def _figure(figure: Figure) -> dict[str, Any]:
    """With the verdict: the median of processor time decides."""
    value, goal = figure.value.median, figure.goal
    return {
        **asdict(figure),
        "said_goal": "" if goal is None else goal.said(),
        "reached": None if goal is None else goal.reached_by(value),
        "stretch_reached": None
        if goal is None or goal.stretch is None
        else replace(goal, target=goal.stretch).reached_by(value),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
