"""`addnorm bench`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.cli.invoke import invoke

if TYPE_CHECKING:
    from addnorm.bench.row import Row

FILE = "bench.json"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Which rows, how thoroughly, and where the results go."""

    rows: tuple[str, ...] = field(default=(), metadata={"positional": "ROW"})
    """Rows to measure, by name, at another size if need be: "NAME(rounds=3)"; or Python files that define one. --list
    shows them. Default: all."""
    rounds: int | None = None
    """How often every arm has its turn. Default: each row's own number, 3 to 15."""
    quick: bool = False
    """Small sizes, to see that everything runs; the figures mean nothing."""
    out: Path | None = None
    """Folder for bench.json and bench.md, or a file NAME.json with NAME.md beside it; other rows in it stay.
    Default: runs/bench-DATE-TIME."""
    list: bool = False
    """Show the rows and what they are to reach, and stop."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm bench`."""
    return invoke(_bench, "bench", words, BenchOptions)


def _bench(options: BenchOptions) -> int:
    """Measure this library beside its peers on this machine: all rows take about 25 minutes on an idle one.

    Arms run in turns in one process on one thread; figures are medians of ratios taken within a round. Close other
    programs first.
    """
    from addnorm.bench.measure import chosen

    rows = chosen(options.rows, quick=options.quick, rounds=options.rounds)
    return _list(rows, options) if options.list else _run(rows, options)


def _list(rows: Sequence[Row], options: BenchOptions) -> int:
    from addnorm.bench.measure import described
    from addnorm.cli import console

    asked = [described(row) for row in rows]
    if options.json:
        console.print_json(asked)
        return 0
    for item in asked:
        text = f"{item['name']}\n  {item['number']}. {item['title']}\n  {item['measures']}"
        console.out().print(text, markup=False, soft_wrap=True)
    return 0


def _run(rows: Sequence[Row], options: BenchOptions) -> int:
    from addnorm.bench import name_of
    from addnorm.bench.measure import run
    from addnorm.cli import console
    from addnorm.cli.progress import Live
    from addnorm.kernels.allocator import keep_freed_memory
    from addnorm.reports.bench_page import terminal_lines

    file = _file(options.out)
    keep_freed_memory()  # as `addnorm train` does; the peers beside us gain as much
    with Live(quiet=options.json) as live:
        try:
            results = run(rows, file, _typed(options), live.of_bench)
        finally:
            _write_page(file)  # of the rows that were done
    if options.json:
        console.print_json({**results, "file": file})
        return 0
    for line in terminal_lines(results, [name_of(row) for row in rows]):
        console.out().print(line, markup=False, soft_wrap=True)
    console.out().print(f"{file}, {file.with_suffix('.md')}", markup=False, soft_wrap=True)
    return 0


def _typed(options: BenchOptions) -> str:
    """The command that measures the same; where it is stored is no part of it."""
    words = ["addnorm", "bench", *options.rows]
    words += ["--quick"] if options.quick else []
    words += ["--rounds", str(options.rounds)] if options.rounds is not None else []
    return shlex.join(words)


def _write_page(file: Path) -> None:
    from addnorm.bench.measure import load
    from addnorm.files import write_atomically
    from addnorm.reports.bench_page import markdown

    if file.exists():
        results: dict[str, Any] = load(file)
        write_atomically(file.with_suffix(".md"), markdown(results))


def _file(out: Path | None) -> Path:
    """Where the results go.

    Raises:
        UserError: the place is taken by something else.
    """
    from addnorm.cli.folders import folder
    from addnorm.errors import UserError

    place = folder("bench", out, resume=False)
    file = place if place.suffix == ".json" else place / FILE
    if place.exists() and place.is_dir() == (file == place):
        raise UserError(
            f"{place} is a {'folder' if place.is_dir() else 'file'}; give a folder or NAME.json with --out."
        )
    file.parent.mkdir(parents=True, exist_ok=True)  # now, not after the first row's minutes
    return file
