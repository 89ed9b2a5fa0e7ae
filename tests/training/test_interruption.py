from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from addnorm.errors import UserError
from addnorm.files import sha256
from addnorm.training.checkpoint import WEIGHTS
from addnorm.training.interruption import Interrupted, StopNow, Watch
from addnorm.training.metrics import FILE, Metrics
from addnorm.training.run import train

PROGRAM = """
import json, sys, time
from addnorm.config import RunConfig
from addnorm.training.interruption import Interrupted
from addnorm.training.run import train

def tell(progress):
    print(progress.step, flush=True)
    time.sleep(0.05 if progress.step >= 7 else 0)  # so that the signal comes before the end on a busy machine too

try:
    train(RunConfig(**json.loads(sys.argv[1])), sys.argv[2], on_progress=tell)
except Interrupted as stop:
    sys.exit(stop.exit_code)
"""


def rows_of(folder):
    rows = Metrics(folder / FILE).rows()
    return [{key: value for key, value in row.items() if key not in ("wall_s", "cpu_s")} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_within_a_step_and_the_run_goes_on_bit_for_bit(tiny, tmp_path, number, code):
    config = tiny(tokens=60 * 64, dropout=0.1, evaluations=2, saves=1)
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(config)), str(tmp_path / "cut")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 7:
            break
    process.send_signal(number)
    steps = [int(line) for line in process.stdout]
    assert process.wait() == code
    rows = rows_of(tmp_path / "cut")
    assert rows[-1]["event"] == "end" and rows[-1]["status"] == "interrupted"
    stopped = rows[-1]["step"]
    assert stopped < 60
    assert (tmp_path / "cut" / "checkpoints" / "last").read_text() == f"step-{stopped:08d}\n"
    assert steps == [] or steps[-1] == stopped  # what was printed before the signal arrived was still in the pipe
    assert not (tmp_path / "cut" / "result.json").exists()
    train(config, tmp_path / "whole")
    train(config, tmp_path / "cut", resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    last = "checkpoints/step-00000060/" + WEIGHTS
    assert sha256(tmp_path / "cut" / last) == sha256(tmp_path / "whole" / last)


def interrupt_at(step):
    def on_progress(progress):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_progress


def test_a_signal_stops_after_the_step_it_came_in(tiny, tmp_path):
    with pytest.raises(Interrupted) as stop:
        train(tiny(), tmp_path / "run", on_progress=interrupt_at(7))
    assert stop.value.exit_code == 143
    assert stop.value.folder == tmp_path / "run"
    assert rows_of(tmp_path / "run")[-1] == {"event": "end", "step": 7, "tokens": 7 * 64, "status": "interrupted"}


def test_a_signal_where_an_evaluation_is_due_leaves_it_to_the_resumed_run(tiny, tmp_path):
    train(tiny(dropout=0.1), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tiny(dropout=0.1), tmp_path / "cut", on_progress=interrupt_at(10))
    assert [row["step"] for row in rows_of(tmp_path / "cut") if row["event"] == "validation"] == [0]
    train(tiny(dropout=0.1), tmp_path / "cut", resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")


def test_a_signal_in_an_evaluation_does_not_wait_for_its_end(tiny, tmp_path, monkeypatch):
    from addnorm.tasks.language_modeling import LanguageModelingProblem

    def endless(self, model):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    began = time.monotonic()
    monkeypatch.setattr(LanguageModelingProblem, "evaluate", endless)
    with pytest.raises(Interrupted) as stop:
        train(tiny(), tmp_path / "run")
    assert time.monotonic() - began < 30
    assert stop.value.exit_code == 130
    monkeypatch.undo()
    train(tiny(), tmp_path / "run", resume=True)
    train(tiny(), tmp_path / "whole")
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


def test_a_signal_while_the_data_are_read_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    from addnorm import tasks

    monkeypatch.setattr(tasks, "prepare", lambda config: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_signal_while_the_last_checkpoint_is_written_still_ends_the_run(tiny, tmp_path, monkeypatch):
    from addnorm.training.checkpoint import Checkpoints

    save = Checkpoints.save

    def signalled(self, checkpoint, *, best):
        os.kill(os.getpid(), signal.SIGTERM)
        return save(self, checkpoint, best=best)

    monkeypatch.setattr(Checkpoints, "save", signalled)
    with pytest.raises(Interrupted):
        train(tiny(saves=1), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"
    assert train(tiny(saves=1), tmp_path / "run", resume=True)["status"] == "finished"


def test_a_second_ctrl_c_does_not_wait_for_the_step():
    with pytest.raises(KeyboardInterrupt), Watch() as watch:
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.signal_number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Watch():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_pending_signal_leaves_breakable_work_at_once():
    with Watch() as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopNow), watch.breakable():
            raise AssertionError("must not be entered")


def test_a_run_in_another_thread_trains_and_watches_nothing(tiny, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tiny(), tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0]["status"] == "finished"


def test_a_signal_after_the_folder_was_removed_brings_nothing_of_it_back(tiny, tmp_path):
    def remove_and_stop(progress):
        if progress.step == 3:
            shutil.rmtree(tmp_path / "run")
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(UserError, match=r"run was removed, so checkpoint step-00000003 is lost"):
        train(tiny(tokens=60 * 64, evaluations=1, signals=0, saves=1), tmp_path / "run", on_progress=remove_and_stop)
    assert not (tmp_path / "run").exists()
