"""Run the commands behind the figures of README and docs again, and print which figures moved.

python scripts/rerun_figures.py --list                     what there is, and what it costs
python scripts/rerun_figures.py --only docs/robust-training.md lr-range
python scripts/rerun_figures.py --under 150                all that take less than 150 CPU seconds each

docs/figures.toml says which command made which figure and where its value is read. Each entry runs on one thread in a
scratch copy of the tree, so nothing is written into docs. A figure has moved if what is measured now, rounded to the
digits shown, is another number; where an entry says `within`, as for times, if it is off by more than that share.
Exit code 1 if a figure moved or a command failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.figures import FILE, ROOT, Entry, Row, compared, entries, moved_on_page

from addnorm.errors import UserError

READS = {"train": "result.json", "compare": "results.json", "evaluate": "json", "lr-range": "json"}
"""Where the values of a command stand, unless a figure says otherwise; of a script, on its standard output."""


def run(entry: Entry, tree: Path) -> list[Row]:
    """An entry's commands in a copy of the tree, and what became of its figures."""
    folders, told = _run_lines(entry, tree)
    if entry.kind == "generated":
        return list(moved_on_page(entry.page, (ROOT / entry.page).read_text(), (tree / entry.page).read_text()))
    rows = []
    for figure in entry.figures:
        read = figure.read or READS.get(_subcommand(entry.lines[-1]), "stdout")
        source: Any = told
        if read == "json":
            source = json.loads(told)
        elif read != "stdout":
            source = json.loads(
                next(file for folder in (*folders, tree) if (file := folder / read).exists()).read_text()
            )
        rows += compared(figure, entry.page, source)
    return rows


def _run_lines(entry: Entry, tree: Path) -> tuple[list[Path], str]:
    """Where the commands wrote, and what the last one printed."""
    folders, told = [], ""
    for i, line in enumerate(entry.lines):
        words = arguments(line)
        if _subcommand(line) in ("train", "compare"):
            words += [] if "--out" in words else ["--out", f"runs/{entry.name}-{i}"]
            folders.append(tree / words[words.index("--out") + 1])
        if READS.get(_subcommand(line)) == "json":
            words.append("--json")
        told = _told(words, tree)
    return folders, told


def arguments(line: str) -> list[str]:
    """The words of a command line, with this interpreter in front."""
    program, *words = shlex.split(line)
    if program not in ("addnorm", "python"):
        raise UserError(f"{line!r} begins with {program!r}; a line of {FILE.name} begins with addnorm or python.")
    return [sys.executable, *(["-m", "addnorm"] if program == "addnorm" else []), *words]


def _subcommand(line: str) -> str:
    program, name, *_ = [*shlex.split(line), ""]
    return name if program == "addnorm" else ""


def _told(words: Sequence[str], tree: Path) -> str:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(words, cwd=tree, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{shlex.join(words[1:])} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def copy_of_tree(place: Path) -> Path:
    """What commands and scripts read and write: copies of what is written, links to the rest."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("docs", "benchmarks", "scripts"):
        shutil.copytree(ROOT / name, place / name)
    for name in ("src", "tests", "examples", "README.md", "LOG.md", "pyproject.toml"):
        (place / name).symlink_to(ROOT / name)
    return place


def table(rows: Sequence[Row]) -> str:
    """Page, figure, what stands there, what is measured now, whether it moved."""
    cells = [("page", "figure", "on the page", "now", "moved")]
    cells += [(row.page, _short(row.figure), row.shown, row.now, "moved" if row.moved else "") for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _short(text: str, width: int = 48) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def listed(chosen: Sequence[Entry]) -> str:
    """A line an entry."""
    lines = []
    for entry in chosen:
        numbers = sum(len(figure.values) for figure in entry.figures)
        cost = entry.why if entry.kind == "once" else f"about {entry.cpu_s:g} CPU s"
        what = "the page" if entry.kind == "generated" else f"{numbers} figures"
        lines.append(f"{entry.name}: {', '.join(sorted(entry.pages))}, {what}; {cost}")
        lines += [f"  {line}" for line in entry.lines]
    return "\n".join(lines)


def chosen(only: Sequence[str], under: float | None) -> list[Entry]:
    """The entries asked for, by name or page.

    Raises:
        UserError: a word is neither.
    """
    found = entries()
    known = {entry.name for entry in found} | {page for entry in found for page in entry.pages}
    if unknown := set(only) - known:
        raise UserError(f"{sorted(unknown)[0]!r} is no entry and no page; --list shows both.")
    found = [entry for entry in found if not only or {entry.name, *entry.pages} & set(only)]
    return [entry for entry in found if under is None or entry.cpu_s < under]


def main() -> int:
    """List, or run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="show the entries, and stop")
    parser.add_argument("--only", nargs="+", default=[], metavar="PAGE|NAME", help="these entries; default: all")
    parser.add_argument("--under", type=float, metavar="CPU_S", help="only entries that take less")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="new folder for the scratch copies with their runs")
    asked = parser.parse_args()
    found = chosen(asked.only, asked.under)
    if asked.list:
        print(listed(found))
        return 0
    moved = False
    for entry in found:
        if entry.kind == "once":
            print(f"{entry.name}: not run, {entry.why}")
            continue
        with tempfile.TemporaryDirectory(prefix="figures-") as scratch:
            moved |= _told_of(entry, copy_of_tree((asked.keep or Path(scratch)) / entry.name))
    return int(moved)


def _told_of(entry: Entry, tree: Path) -> bool:
    """Run an entry, print its figures, say whether one moved."""
    try:
        rows = run(entry, tree)
    except UserError as error:
        print(f"{entry.name}: failed, {error}\n", flush=True)
        return True
    print(f"{entry.name}\n{table(rows)}\n", flush=True)
    return any(row.moved for row in rows)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"rerun_figures: error: {error}", file=sys.stderr)
        sys.exit(2)
