"""TensorBoard's own reader finds in a run's event files what the run's rows say, once each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import addnorm
from addnorm.tracking.tensorboard import TensorBoard
from addnorm.training.run_folder import RunFolder

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    """TensorBoard's reader with all points, not a sample of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()


def steps(reader: Any, name: str = "loss/train") -> list[int]:
    return [point.step for point in reader.Scalars(name)]


def test_every_row_is_there_with_its_value_and_the_time_of_training(rows: Any, store: Callable[..., Path]) -> None:
    folder = store([])
    board = TensorBoard(folder, folder / "metrics.jsonl", {"scheme": "pre-norm"})
    for row in rows:
        board.take(row)
    reader = read(folder)  # what is there while the run goes on
    board.close()
    points = reader.Scalars("loss/train")
    assert [(point.step, round(point.value, 4)) for point in points] == [
        (s, round(5 - 0.1 * s, 4)) for s in range(1, 21)
    ]
    assert points[-1].wall_time - points[0].wall_time == pytest.approx(1.9)
    assert (
        steps(reader, "loss/validation")
        == steps(reader, "signal_state_rms/02")
        == steps(reader, "signal_update_rms/00")
        == [10, 20]
    )
    assert reader.Scalars("signal_state_grad_norm/00")[0].value == 3.0
    assert "signal_update_rms/01" not in reader.Tags()["scalars"]


def test_a_killed_run_that_goes_on_has_each_step_once(rows: Any, store: Callable[..., Path]) -> None:
    folder = store([])
    killed = TensorBoard(folder, folder / "metrics.jsonl", {})
    for row in rows[:18]:
        killed.take(row)
    open_meanwhile = read(folder)
    store(rows[:11])  # the checkpoint was written at step 10
    board = TensorBoard(folder, folder / "metrics.jsonl", {})
    assert steps(read(folder)) == steps(open_meanwhile.Reload()) == list(range(1, 11))
    for row in rows[11:]:
        board.take(row)
    assert steps(read(folder)) == steps(open_meanwhile.Reload()) == list(range(1, 21))
    board.close()
    assert len(list((folder / "tensorboard").iterdir())) == 1
    assert steps(read(folder)) == list(range(1, 21))


@pytest.mark.slow
def test_a_training_that_is_killed_and_resumed_has_the_curves_of_its_rows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = (
        "--track tensorboard --d-model 16 --num-layers 1 --context 16 --batch-size 2 --steps 400 --saves 20 --seed 3"
    )
    command = [sys.executable, "-m", "addnorm", "train", "--out", str(run), "--quiet"]
    process = subprocess.Popen([*command, *words.split()], stdout=subprocess.DEVNULL)
    while not list(run.glob("checkpoints/step-*")):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "result.json").exists()
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    reader, found = read(run), RunFolder(run).rows()
    for event, name, field in (("train", "loss/train", "loss"), ("validation", "loss/validation", "loss")):
        expected = [(row["step"], row[field]) for row in found if row["event"] == event]
        assert [point.step for point in reader.Scalars(name)] == [step for step, _ in expected]
        assert [point.value for point in reader.Scalars(name)] == pytest.approx([value for _, value in expected])
    signals = [row for row in found if row["event"] == "signal"]
    assert steps(reader, "signal_state_rms/02") == [row["step"] for row in signals]


def test_a_recorder_writes_to_torchs_writer(tmp_path: Path) -> None:
    import torch
    from torch.utils.tensorboard import SummaryWriter

    model = addnorm.Transformer("pre-norm", vocab_size=20, d_model=16, num_heads=2, num_layers=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        SummaryWriter(str(tmp_path / "tensorboard")) as writer,
        addnorm.Recorder(model, every=1, to=writer) as recorder,
    ):
        for _ in range(2):
            model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
            optimizer.step()
    name = f"state_rms/{recorder.names[1]}"
    found = [point.value for point in read(tmp_path).Scalars(name)]
    assert found == pytest.approx([row["state_rms"][1] for row in recorder.rows])
