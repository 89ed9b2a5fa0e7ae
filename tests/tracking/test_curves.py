"""Which points a run's rows are, and how they are handed over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from addnorm.tracking.curves import Curves
from addnorm.tracking.rows import Rows
from addnorm.tracking.sinks import points_to


def test_a_training_row_gives_loss_gradient_rate_and_the_speed_since_the_row_before() -> None:
    curves = Curves()
    row = {"event": "train", "step": 4, "loss": 2.5, "grad_norm": 0.7, "learning_rate": 0.01}
    first = curves.of(row | {"tokens": 1000, "wall_s": 2.0})
    assert first == {
        "loss/train": 2.5,
        "run/gradient_norm": 0.7,
        "run/learning_rate": 0.01,
        "run/tokens_per_s": 500.0,
    }
    assert curves.of(row | {"tokens": 4000, "wall_s": 3.0})["run/tokens_per_s"] == 3000.0
    assert "run/tokens_per_s" not in curves.of(row | {"tokens": 5000, "wall_s": 3.0})  # no time has passed


def test_a_signal_row_gives_a_point_a_depth_and_none_for_what_was_not_measured() -> None:
    points = Curves().of({"event": "signal", "step": 0, "state_rms": [0.5, "inf"], "read_rms": ["nan", 1.0]})
    assert points == {"signal_state_rms/00": 0.5, "signal_state_rms/01": float("inf"), "signal_read_rms/01": 1.0}


@pytest.mark.parametrize("event", ["end", "skipped", "rollback"])
def test_other_rows_belong_to_no_curve(event: str) -> None:
    assert Curves().of({"event": event, "step": 3, "loss": 1.0}) == {}


def test_the_same_points_reach_a_writer_of_scalars_and_what_logs_a_mapping() -> None:
    scalars, logged = [], []
    writer = SimpleNamespace(add_scalar=lambda name, value, step: scalars.append((step, name, value)))
    tracker = SimpleNamespace(log=lambda points, step: logged.append((step, points)))
    for each in (writer, tracker):
        write = points_to(each)
        assert write is not None
        write(7, {"loss/train": 1.0, "state_rms/00": 2.0})
    assert scalars == [(7, "loss/train", 1.0), (7, "state_rms/00", 2.0)]
    assert logged == [(7, {"loss/train": 1.0, "state_rms/00": 2.0})]
    assert points_to("runs/rows.jsonl") is points_to(print) is None


def test_rows_that_another_process_appends_are_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = Rows(path)
    assert rows.new() == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert rows.new() == [{"step": 1}, {"step": 2}]
    assert rows.new() == []
    with path.open("a") as file:
        file.write('ep": 3}\n')
    assert rows.new() == [{"step": 3}]
