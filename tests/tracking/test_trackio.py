"""trackio's database holds what a run's rows say, once each, and nothing but that file is touched."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from addnorm.tracking.trackio import Trackio, TrackioFailed, local_environment, names


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """trackio's folder for this test alone."""
    pytest.importorskip("trackio")
    folder = tmp_path_factory.mktemp("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(folder))
    return folder


def curves(database: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By run's id, by name."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    with sqlite3.connect(database / "addnorm.db") as connection:
        for run, step, points in connection.execute("SELECT run_id, step, metrics FROM metrics ORDER BY id"):
            for name, value in json.loads(points).items():
                found[run][name].append((step, value))
    return found


@pytest.mark.slow
def test_a_killed_run_that_goes_on_has_each_step_once(database: Path, rows: Any, store: Callable[..., Path]) -> None:
    folder = store(rows[:18])
    killed = Trackio(folder, folder / "metrics.jsonl", {})
    killed.close()  # what a killed training leaves: its standard input ends
    (before,) = curves(database)
    store(rows[:11])
    tracker = Trackio(folder, folder / "metrics.jsonl", {})
    with (folder / "metrics.jsonl").open("a") as file:
        for row in rows[11:]:
            file.write(json.dumps(row) + "\n")
            file.flush()
            tracker.take(row)
    tracker.close()
    ((run, found),) = curves(database).items()
    assert run == json.loads((folder / "trackio.json").read_text())["id"] != before
    assert [step for step, _ in found["loss/train"]] == list(range(1, 21))
    assert found["loss/train"][4][1] == pytest.approx(4.5)
    assert found["signal_state_rms/02"] == [(10, 0.3), (20, 0.3)]


@pytest.mark.slow
def test_a_database_that_cannot_be_written_is_told(database: Path, rows: Any, store: Callable[..., Path]) -> None:
    (database / "addnorm.db").mkdir()
    folder = store(rows)
    with pytest.raises(TrackioFailed, match="trackio|database"):
        Trackio(folder, folder / "metrics.jsonl", {}).close()


def test_nothing_that_leads_to_another_machine_reaches_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL", "HF_TOKEN", "SPACE_ID"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("TRACKIO_DIR", "/here")
    left = local_environment()
    assert "elsewhere" not in left.values()
    assert (left["TRACKIO_DIR"], left["HF_HUB_OFFLINE"], left["PATH"]) == ("/here", "1", os.environ["PATH"])


def test_the_runs_of_a_comparison_are_one_project(tmp_path: Path) -> None:
    run = tmp_path / "by night" / "runs" / "mhc-L2" / "seed-1"
    assert names(run) == ("addnorm", "seed-1")
    run.mkdir(parents=True)
    (tmp_path / "by night" / "spec.json").write_text("{}")
    assert names(run) == ("by-night", "mhc-L2/seed-1")


def test_a_process_that_has_ended_is_told_at_the_next_row(
    rows: Any, store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("addnorm.tracking.trackio.CHILD", "addnorm.no_such_module")
    folder = store(rows)
    tracker = Trackio(folder, folder / "metrics.jsonl", {})
    tracker.process.wait()
    with pytest.raises(TrackioFailed, match="no_such_module"):
        tracker.take(rows[0])
    with pytest.raises(TrackioFailed, match="no_such_module"):
        tracker.close()
