"""Every figure of README and docs has the command that made it, and the reader of values reads."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from scripts import rerun_figures
from scripts.figures import (
    ROOT,
    Entry,
    Figure,
    compared,
    entries,
    look_up,
    moved_on_page,
    number,
    pages_without_figures,
    rounded,
)

from addnorm.errors import UserError
from command_line import here

ENTRIES = entries()
WITHOUT = pages_without_figures()
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
LINES = sorted({line for entry in ENTRIES for line in entry.lines})
RESULTS = {
    "arms": [
        {"scheme": "pre-norm", "layers": 2, "loss": {"mean": 0.74244, "half_width": None}, "scores": []},
        {"scheme": "pre-norm", "layers": 8, "loss": {"mean": 0.88973, "half_width": 0.79}},
        {"scheme": "mhc", "layers": 8, "scores": [{"name": "MSE, next frame", "mean": 0.0076, "note": "floor: 0.263"}]},
    ],
    "verdict": "better",
}


def _joined(text: str) -> str:
    """A text in one line, commands that go over two lines in one."""
    return " ".join(text.replace("\\\n", " ").split())


def _page(name: str) -> str:
    return _joined((ROOT / name).read_text(encoding="utf-8"))


def _parts(line: str) -> list[str]:
    """`addnorm compare`, `--seeds 3`, ...: what a page must name for a reader to type the line."""
    command, *flags = re.split(r" (?=--\w)", line)
    return [" ".join(command.split()[:2]), *(_joined(flag) for flag in flags if not flag.startswith("--out "))]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_figures_stand_on_their_page(entry: Entry) -> None:
    for figure in entry.figures:
        assert _joined(figure.plain) in _page(figure.page or entry.page)
        assert len(figure.shown) == len(figure.values) > 0
        assert all(number(shown).is_finite() for shown in figure.shown)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_page_names_the_command_with_its_flags(entry: Entry) -> None:
    page = _page(entry.page) if entry.page.endswith(".md") else ""
    assert [part for line in entry.lines for part in _parts(line) if page and part not in page] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_can_be_run_or_says_why_not(entry: Entry) -> None:
    if entry.kind == "once":
        assert entry.why and not entry.lines
    else:
        assert entry.lines and entry.cpu_s > 0
        assert bool(entry.figures) == (entry.kind == "command")
        assert all(path for figure in entry.figures for path in figure.values)


def test_names_are_unique() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_its_commands_or_says_why_it_has_none(page: str) -> None:
    covered = any(page in entry.pages for entry in ENTRIES)
    excused = any(page == name or page.startswith(f"{name}/") for name in WITHOUT)
    assert covered != excused


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/tasks")])
def test_every_row_of_figures_of_a_task_is_held(page: str) -> None:
    """A row of a table with two or more numbers with decimals is a measured one."""
    held = [
        _joined(figure.plain) for entry in ENTRIES for figure in entry.figures if (figure.page or entry.page) == page
    ]
    rows = re.findall(r"^\|.*\|$(?!\n\|[-:])", (ROOT / page).read_text(), re.MULTILINE)
    measured = [_joined(row) for row in rows if len(re.findall(r"(?<![\w.=:])\d+\.\d+(?!\w)", row)) >= 2]
    trivial = re.compile(r"\| (most frequent label|the source, copied)")
    assert [row for row in measured if not trivial.match(row) and not any(text in row for text in held)] == []


@pytest.mark.parametrize("line", LINES)
def test_commands_can_be_typed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(line)
    if line.startswith("python "):
        assert (ROOT / words[0]).is_file()
    elif words[0] in ("train", "compare"):
        seen = here(*words, "--print-config")
        assert seen.code == 0, seen.err
    else:
        assert _refused(words) is None
    assert list(tmp_path.iterdir()) == []


def _refused(words: list[str]) -> str | None:
    """What the parser says against words that are not run."""
    from addnorm.cli import arguments as parser
    from addnorm.cli import bench, evaluate, flags, lr_range, reproduce
    from addnorm.config import RunConfig

    parts = {
        "lr-range": (RunConfig, lr_range.LrRangeOptions),
        "evaluate": (evaluate.EvaluateOptions,),
        "reproduce": (reproduce.ReproduceOptions,),
        "bench": (bench.BenchOptions,),
    }[words[0]]
    known = flags.flags_of(*parts)
    parser.convert(words[0], parser.scan(words[0], words[1:], known), known)
    return None


def test_claims_that_are_run_again_exist() -> None:
    from addnorm.studies.reproduce import chosen

    for line in LINES:
        if line.startswith("addnorm reproduce"):
            chosen(shlex.split(line.partition(" --out")[0])[2:])


def test_a_value_is_read_by_its_path() -> None:
    assert look_up(RESULTS, "arms[scheme=pre-norm,layers=8].loss.mean") == 0.88973
    assert look_up(RESULTS, "arms[2].scores[name=MSE, next frame].mean * 100") == pytest.approx(0.76)
    assert look_up(RESULTS, "arms[2].scores[0].note ~ floor: (\\S+)") == 0.263


@pytest.mark.parametrize(
    "path",
    ["arms[scheme=keel].loss", "arms[scheme=pre-norm].loss.mean", "arms[9].loss", "verdict", "arms[0].loss.mode"],
)
def test_a_value_that_is_not_there_is_not_made_up(path: str) -> None:
    with pytest.raises(LookupError):
        look_up(RESULTS, path)


def test_a_figure_moves_when_its_digits_do() -> None:
    def moved(text: str, path: str, within: float = 0.0) -> list[bool]:
        return [row.moved for row in compared(Figure(text=text, values=(path,), within=within), "page", RESULTS)]

    assert moved("| {0.742} |", "arms[0].loss.mean") == [False]
    assert moved("| {0.743} |", "arms[0].loss.mean") == [True]
    assert moved("| {0.7} |", "arms[0].loss.mean") == [False]
    assert moved("{0.9} s", "arms[0].loss.mean", within=0.3) == [False]
    assert moved("{0.9} s", "arms[0].loss.mean", within=0.1) == [True]
    assert moved("± {0.1}", "arms[0].loss.half_width") == [True]  # no interval any more
    assert moved("{−0.742} below", "arms[0].loss.mean * -1") == [False]


@pytest.mark.parametrize(
    ("value", "shown", "now"),
    [(0.00304, "3e-3", "0.003"), (74321.0, "7e4", "7E+4"), (38400.4, "38,400", "38400"), (-0.2366, "−0.237", "-0.237")],
)
def test_values_are_rounded_to_the_digits_shown(value: float, shown: str, now: str) -> None:
    assert str(rounded(value, shown)) == now
    assert rounded(value, shown) == number(shown)


def test_a_script_is_read_by_what_it_prints() -> None:
    figure = Figure(text="| 256 | {31} ±3 |", values=(r"^\| 256 \| ([\d.]+)",))
    (row,) = compared(figure, "page", "| 128 | 37.72 ±6.53 |\n| 256 | 30.69 ±2.90 |\n")
    assert (row.now, row.moved) == ("31", False)


@pytest.mark.slow
def test_a_run_is_read_from_its_folder_and_docs_stay(tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*")}
    small = (
        "addnorm train --num-layers 1 --d-model 16 --context 16 --batch-size 4 --tokens 256 --score-items 0 --seed 1"
    )
    figure = Figure(text="reached {99.0} nats", values=("validation_loss",))
    entry = Entry(name="small", page="README.md", lines=(small,), cpu_s=1, figures=(figure,))
    (row,) = rerun_figures.run(entry, rerun_figures.copy_of_tree(tmp_path))
    stored = json.loads((tmp_path / "runs" / "small-0" / "result.json").read_text())["validation_loss"]
    assert row.moved and float(row.now) == pytest.approx(stored, abs=0.05)
    assert "moved" in rerun_figures.table([row])
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*")} == before


@pytest.mark.slow
def test_a_generated_page_is_written_in_the_copy_and_compared(tmp_path: Path) -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "benchmarks")
    entry = replace(entry, lines=entry.lines[1:])  # the page alone, from results that are stored
    tree = rerun_figures.copy_of_tree(tmp_path)
    assert rerun_figures.run(entry, tree) == []
    (results,) = (tree / "benchmarks" / "results").glob("*-bench.json")
    stored = json.loads(results.read_text())
    stored["rows"][0]["wall_s"] = 777.0
    results.write_text(json.dumps(stored))
    assert [row.now for row in rerun_figures.run(entry, tree)] == ["777"]


def test_what_moved_on_a_generated_page_is_found() -> None:
    old = "# Page\n\n| mhc | 1.07x | 7 |\n<p>at <b>2.5</b></p><svg>3.5</svg>\n"
    new = "# Page\n\n| mhc | 1.09x | 7 |\n<p>at <b>2.5</b></p><svg>4.5</svg>\n"
    rows = list(moved_on_page("page", old, new))
    assert [(row.shown, row.now) for row in rows] == [("1.07", "1.09")]
    assert list(moved_on_page("page", old, old)) == []


def test_only_commands_of_this_project_are_run() -> None:
    with pytest.raises(UserError, match="begins with"):
        rerun_figures.arguments("make demo")
    with contextlib.suppress(UserError):
        rerun_figures.chosen(["no-such-page"], None)
        pytest.fail("an unknown name was taken")
