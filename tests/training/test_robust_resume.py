"""Every option of robust training goes on after a crash as if nothing had happened."""

from __future__ import annotations

import pytest
import torch

from addnorm import tasks
from addnorm.files import sha256
from addnorm.training.checkpoint import WEIGHTS
from addnorm.training.load import load_model
from addnorm.training.metrics import FILE, Metrics
from addnorm.training.rollback import SpikeGuard
from addnorm.training.run import train
from addnorm.training.trainer import Trainer

TIMES = ("wall_s", "cpu_s")


class Crash(Exception):
    pass


def crash_at(step):
    def on_progress(progress):
        if progress.step == step:
            raise Crash

    return on_progress


def rows_of(folder):
    rows = Metrics(folder / FILE).rows()
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def assert_the_same_run(one, other):
    assert rows_of(one) == rows_of(other)
    for pointer in ("last", "best"):
        name = (one / "checkpoints" / pointer).read_text()
        assert name == (other / "checkpoints" / pointer).read_text()
        for file in (WEIGHTS, "optimizer.safetensors"):
            places = [folder / "checkpoints" / name.strip() / file for folder in (one, other)]
            assert sha256(places[0]) == sha256(places[1]), (pointer, file)


OPTIONS = {
    "wsd": {"schedule": "wsd", "decay": 0.5},
    "accumulate": {"accumulate": 3, "dropout": 0.1},
    "ema": {"ema": 0.9},
    "ema of constrained weights": {"ema": 0.9, "scheme": "n-gpt"},
    "ema of a batch norm": {"ema": 0.9, "scheme": "post-norm(norm=batch)"},
    "label smoothing": {"label_smoothing": 0.1},
    "all": {"schedule": "wsd", "accumulate": 2, "ema": 0.8, "label_smoothing": 0.1, "spike": 8.0, "dropout": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("crash", [9, 14])
def test_a_crashed_run_goes_on(tiny, tmp_path, changes, crash):
    config = tiny(saves=4, evaluations=3, **changes)
    train(config, tmp_path / "whole")
    with pytest.raises(Crash):
        train(config, tmp_path / "crashed", on_progress=crash_at(crash))
    train(config, tmp_path / "crashed", resume=True)
    assert_the_same_run(tmp_path / "whole", tmp_path / "crashed")


@pytest.mark.parametrize("crash", [12, 22, 26, 28])
def test_patience_survives_a_crash(tiny, tmp_path, crash, monkeypatch):
    """Losses that fall until the third evaluation; patience ends the run at the sixth, step 30."""
    losses = {0: 6.0, 6: 5.0, 12: 3.0, 18: 4.0, 24: 3.5, 30: 3.1}
    trainers = []
    remember = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, tell: (trainers.append(self), remember(self, tell))[1])
    config = tiny(tokens=60 * 64, saves=4, evaluations=10, patience=3)
    problem = type(tasks.prepare(config))
    monkeypatch.setattr(problem, "evaluate", lambda self, model: losses[trainers[-1].at.step])
    assert train(config, tmp_path / "whole")["status"] == "stopped early"
    with pytest.raises(Crash):
        train(config, tmp_path / "crashed", on_progress=crash_at(crash))
    assert train(config, tmp_path / "crashed", resume=True)["status"] == "stopped early"
    assert_the_same_run(tmp_path / "whole", tmp_path / "crashed")
    assert (tmp_path / "crashed" / "checkpoints" / "best").read_text() == "step-00000012\n"
    load_model(tmp_path / "crashed")


def test_a_run_that_stopped_early_but_left_no_result_only_writes_it(tiny, tmp_path, monkeypatch):
    config = tiny(tokens=60 * 64, saves=4, evaluations=10, patience=2)
    monkeypatch.setattr(type(tasks.prepare(config)), "evaluate", lambda self, model: 3.0)
    train(config, tmp_path / "run")
    before = rows_of(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    assert train(config, tmp_path / "run", resume=True, on_progress=crash_at(13))["status"] == "stopped early"
    assert rows_of(tmp_path / "run") == before


@pytest.mark.slow
@pytest.mark.parametrize("crash", [51, 63, 66, 70, 79])
def test_a_rollback_survives_a_crash_before_and_after_it(tiny, tmp_path, crash, monkeypatch):
    """Batches 64 and 65 are poisoned. Checkpoints stand at 60 and 70; the snapshot in them is of step 50."""
    config = tiny(tokens=90 * 64, saves=9, evaluations=3, spike=8.0, ema=0.9, learning_rate=1e-2)
    problem = type(tasks.prepare(config))
    clean = problem.train_batch

    def poisoned(self, step):
        inputs, targets = clean(self, step)
        return (inputs, targets * 0 + 255) if step in (64, 65) else (inputs, targets)

    monkeypatch.setattr(problem, "train_batch", poisoned)
    assert train(config, tmp_path / "whole")["status"] == "finished"
    back = [row for row in rows_of(tmp_path / "whole") if row["event"] == "rollback"]
    assert [(row["step"], row["to_step"]) for row in back] == [(65, 50), (66, 50)]
    with pytest.raises(Crash):
        train(config, tmp_path / "crashed", on_progress=crash_at(crash))
    train(config, tmp_path / "crashed", resume=True)
    assert_the_same_run(tmp_path / "whole", tmp_path / "crashed")


def test_a_guard_without_a_snapshot_comes_back_without_one():
    guard = SpikeGuard(3.0, dict)
    guard.load_({"exp_avg/x": torch.ones(2)}, {"losses": [1.0, 2.0], "snapshot_step": -1})
    assert not guard.can_go_back and guard.losses == [1.0, 2.0]
