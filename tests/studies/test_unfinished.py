"""A comparison before its end: pages as runs end, and reports of what a stopped one has left."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from addnorm.errors import UserError
from addnorm.reports.page import page
from addnorm.studies.compare import compare
from addnorm.studies.runner import StudyProgress
from addnorm.studies.stored_results import stored_results
from addnorm.studies.unfinished import SHARE, Ended, PageWarning
from command_line import here
from studies.test_compare import FAKE, SPEC, _stored


def test_results_come_as_runs_end_and_say_how_many(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    compare(replace(SPEC, workers=1), tmp_path / "out", show=seen.append, command=FAKE)
    assert seen and all(found["unfinished"]["total"] == 18 for found in seen)
    first = seen[0]
    assert first["unfinished"]["ended"] == 1 and first["answers"] == []
    words = {arm["verdict"] for arm in first["arms"]}
    assert words <= {"baseline", "not decided yet", "no run ended yet"} and "no run ended yet" in words
    text = page(json.loads(json.dumps(first)))
    assert "1 of 18 runs had ended" in text and 'http-equiv="refresh"' in text
    assert '"unfinished":true' in text and 'class="verdict fails"' not in text


def test_a_page_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    def broken(found: dict[str, Any]) -> None:
        raise OSError("no space left")

    with pytest.warns(PageWarning, match="no space left") as told:
        results = compare(replace(SPEC, workers=1), tmp_path / "out", show=broken, command=FAKE)
    assert (
        sum(one.category is PageWarning for one in told) == 1
        and not results["failures"]
        and (tmp_path / "out" / "results.json").is_file()
    )


def test_a_page_that_takes_long_is_written_seldom() -> None:
    shown: list[float] = []

    def show() -> None:
        time.sleep(0.02)
        shown.append(time.monotonic())

    ended = Ended(show, None)
    began = time.monotonic()
    done = 0
    while time.monotonic() < began + 0.3:
        done += 1
        ended(StudyProgress(done=done, failed=0, total=10_000_000, running=(), elapsed_s=0.0, eta_s=None))
    assert len(shown) == 1 and SHARE * 0.02 > 0.3
    later = StudyProgress(done=done + 1, failed=0, total=done + 1, running=(), elapsed_s=0.0, eta_s=None)
    ended.next_s = 0.0
    ended(later)
    assert len(shown) == 1, "after the last run the whole report is written"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of which some runs have not ended, as kill -9 leaves it: no results.json, half a page."""
    folder = tmp_path_factory.mktemp("stopped") / "out"
    _stored(folder, skip=("plain-L6-lr0.002/seed-2", "mhc-L6-lr0.002/seed-0", "post-norm-L2-lr0.002/seed-1"))
    (folder / "times.jsonl").unlink()
    return folder


def test_a_stopped_comparison_is_reported_as_far_as_it_went(stopped: Path) -> None:
    seen = here("report", str(stopped))
    assert seen.code == 0, seen.err
    assert "16 of 18 runs have ended; open " in seen.out and "not decided" in seen.out
    text = (stopped / "report.html").read_text()
    assert "16 of 18 runs had ended" in text
    assert (stopped / "results.csv").is_file() and not (stopped / "results.json").exists()


def test_a_finished_comparison_is_drawn_from_its_results_alone(tmp_path: Path) -> None:
    compare(SPEC, tmp_path / "out", command=FAKE)
    whole = page(json.loads((tmp_path / "out" / "results.json").read_text()))
    for path in (tmp_path / "out" / "runs").iterdir():
        path.rename(tmp_path / path.name)
    assert here("report", str(tmp_path / "out")).code == 0
    assert (tmp_path / "out" / "report.html").read_text() == whole
    assert 'http-equiv="refresh"' not in whole


def test_what_is_no_comparison_is_said_to_be_what_it_is(stopped: Path, tmp_path: Path) -> None:
    run = next((stopped / "runs").glob("*/seed-0"))
    for folder, word in ((run, "one training run"), (tmp_path, "holds no comparison"), (tmp_path / "x", "no folder")):
        seen = here("report", str(folder))
        assert seen.code == 2 and seen.is_one_line_of_error() and word in seen.err, seen.err


def test_a_stopped_comparison_runs_no_code_that_the_caller_has_not_named(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    _stored(folder)
    spec = json.loads((folder / "spec.json").read_text())
    mark = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    (folder / "spec.json").write_text(json.dumps({**spec, "schemes": ["pre-norm", str(tmp_path / "mine.py")]}))
    with pytest.raises(UserError, match=r"add --schemes"):
        stored_results(folder)
    assert not mark.exists()
