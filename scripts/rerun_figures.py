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
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from addnorm.errors import UserError

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "figures.toml"
READS = {"train": "result.json", "compare": "results.json", "evaluate": "json", "lr-range": "json"}
"""Where the values of a command stand, unless a figure says otherwise; of a script, on its standard output."""
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Numbers of one piece of text, and where each is read."""

    text: str
    """As it stands on the page, each number between braces."""
    values: tuple[str, ...]
    """A path for each number, such as `arms[scheme=mhc,layers=8].validation_loss.mean * 100`; of a script a regular
    expression with one group."""
    at: str = ""
    """What all paths begin with."""
    read: str = ""
    """`json` (what --json prints), `stdout`, or a file of the run's folder."""
    within: float = 0.0
    """The share by which a figure may be off; 0: what rounding to the digits shown hides."""
    page: str = ""
    """Where it is not the entry's."""

    @property
    def plain(self) -> str:
        """The text as it stands on the page."""
        return self.text.replace("{", "").replace("}", "")

    @property
    def shown(self) -> list[str]:
        """The numbers as they stand on the page."""
        return re.findall(r"\{(.*?)\}", self.text)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Commands that are run one after the other, and the figures that they make."""

    name: str
    page: str
    lines: tuple[str, ...] = ()
    cpu_s: float = 0.0
    figures: tuple[Figure, ...] = ()
    kind: Literal["command", "generated", "once"] = "command"
    """`generated`: the commands write the whole page. `once`: cannot be run again here, for the reason `why`."""
    why: str = ""

    @property
    def pages(self) -> set[str]:
        """Where its figures stand."""
        return {self.page, *(figure.page for figure in self.figures if figure.page)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one figure."""

    page: str
    figure: str
    shown: str
    now: str
    moved: bool


def entries(file: Path = FILE) -> list[Entry]:
    """The commands of docs/figures.toml."""
    return [_entry(item) for item in tomllib.loads(file.read_text(encoding="utf-8"))["command"]]


def _entry(item: dict[str, Any]) -> Entry:
    figures = tuple(_figure(figure) for figure in item.get("figures", ()))
    fields: dict[str, Any] = {**item, "lines": tuple(item.get("lines", ())), "figures": figures}
    return Entry(**fields)


def _figure(item: dict[str, Any]) -> Figure:
    fields: dict[str, Any] = {**item, "values": tuple(item["values"])}
    return Figure(**fields)


def pages_without_figures(file: Path = FILE) -> dict[str, str]:
    """Pages that show nothing measured, with the reason."""
    return tomllib.loads(file.read_text(encoding="utf-8"))["without"]


def look_up(data: Any, path: str) -> float:
    """A number by its path.

    >>> look_up({"arms": [{"scheme": "mhc", "loss": {"mean": 0.5}}]}, "arms[scheme=mhc].loss.mean * 100")
    50.0

    Raises:
        LookupError: it is not there.
    """
    path, _, pattern = path.partition(" ~ ")
    path, _, factor = path.partition(" * ")
    found = data
    for name, choice in re.findall(r"([^.\[\]]+)|\[(.*?)\]", path):
        found = _chosen(found, choice) if choice else found[name]
    if pattern:
        return _matched(found, pattern)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise LookupError(f"{path} is {found!r}, not a number")
    return found * float(factor or 1)


def _chosen(items: Sequence[Any], choice: str) -> Any:
    """`[2]`, or the one item whose fields are as said: `[scheme=mhc,layers=8]`."""
    if "=" not in choice:
        return items[int(choice)]
    wanted = dict(part.split("=", 1) for part in re.split(r",(?=\w+=)", choice))
    found = [item for item in items if all(str(item.get(key)) == value for key, value in wanted.items())]
    if len(found) != 1:
        raise LookupError(f"{len(found)} items with {choice}")
    return found[0]


def number(shown: str) -> Decimal:
    """A number as a page writes it.

    >>> number("−0.237"), number("38,400")
    (Decimal('-0.237'), Decimal('38400'))
    """
    return Decimal(shown.replace("−", "-").replace(",", ""))


def rounded(value: float, shown: str) -> Decimal:
    """A value to the digits of a shown one: rounded(0.05, "3e-3") is 0.050."""
    return Decimal(repr(value)).quantize(Decimal(1).scaleb(int(number(shown).as_tuple().exponent)))


def compared(figure: Figure, page: str, source: Any) -> list[Row]:
    """The figure's numbers beside those of the source: JSON, or text."""
    rows = []
    for shown, path in zip(figure.shown, figure.values, strict=True):
        try:
            value = _matched(source, path) if isinstance(source, str) else look_up(source, figure.at + path)
            now = rounded(value, shown)
            moved = abs(value - float(number(shown))) > figure.within * abs(float(number(shown)))
            text, moved = str(now), moved if figure.within else now != number(shown)
        except (LookupError, TypeError, InvalidOperation) as error:
            text, moved = f"not found: {error}", True
        rows.append(Row(page=figure.page or page, figure=figure.plain, shown=shown, now=text, moved=moved))
    return rows


def _matched(text: str, pattern: str) -> float:
    """The number that a pattern finds in a text."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise LookupError(pattern)
    return float(number(found[1]))


def run(entry: Entry, tree: Path) -> list[Row]:
    """An entry's commands in a copy of the tree, and what became of its figures."""
    folders, told = _run_lines(entry, tree)
    if entry.kind == "generated":
        return list(_rows_of_pages(entry.page, (ROOT / entry.page).read_text(), (tree / entry.page).read_text()))
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


def _rows_of_pages(page: str, before: str, after: str) -> Iterator[Row]:
    """Numbers of a generated page that are no longer the same, line beside line."""
    old, new = _lines(before), _lines(after)
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        for n in range(max(j - i, m - k)):
            was, now = old[i + n] if i + n < j else "", new[k + n] if k + n < m else ""
            shown, here = NUMBER.findall(was), NUMBER.findall(now)
            if len(shown) != len(here):
                yield Row(page=page, figure=(was or now), shown=" ".join(shown), now=" ".join(here), moved=True)
                continue
            for left, right in zip(shown, here, strict=True):
                if left != right:
                    yield Row(page=page, figure=was, shown=left, now=right, moved=True)


def _lines(text: str) -> list[str]:
    """Of Markdown the lines; of HTML what is read, without drawings, an element a line."""
    text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    return [line for line in re.sub(r"</?\w[^<>]*>", "\n", text).splitlines() if line.strip()]


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
