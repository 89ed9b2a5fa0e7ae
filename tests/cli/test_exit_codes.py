"""However a command stops, it says so in one line and with a documented exit code."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from addnorm.cli import compare as compare_command
from addnorm.cli import train as train_command
from addnorm.errors import UserError
from addnorm.training.interruption import Interrupted
from command_line import here


@pytest.fixture
def stopped_by(monkeypatch, tmp_path):
    """Let training stop with an exception."""
    monkeypatch.chdir(tmp_path)

    def run(error):
        def stop(*_):
            raise error

        monkeypatch.setattr(train_command, "_run", stop)
        return here("train")

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("what\ncame"), 2, "addnorm: error: what came\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 2, "the disk is full (writing runs/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2, "the system refused runs: Permission denied"),
        (MemoryError(), 2, "too large for this machine (MemoryError)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "too large for this machine"),
        (OverflowError("int too big to convert"), 2, "too large for this machine"),
        (KeyboardInterrupt(), 130, "addnorm: interrupted."),
        (Interrupted(Path("runs/x"), signal.SIGINT), 130, "addnorm: interrupted by SIGINT; resume runs/x"),
        (Interrupted(Path("runs/x"), signal.SIGTERM), 143, "interrupted by SIGTERM"),
    ],
)
def test_every_way_to_stop_has_its_code_and_line(error, code, said, stopped_by):
    seen = stopped_by(error)
    assert seen.code == code
    assert said in seen.err
    assert len(seen.err.splitlines()) == 1
    assert seen.out == ""


def test_a_bug_is_one_line_and_leaves_its_traceback(stopped_by):
    seen = stopped_by(ZeroDivisionError("division by zero"))
    assert seen.code == 1
    assert len(seen.err.splitlines()) == 1
    assert "this is a bug in addnorm: ZeroDivisionError: division by zero" in seen.err
    trace = Path(seen.err.rpartition(" is in ")[2].strip().rstrip("."))
    assert "Traceback" in trace.read_text()
    trace.unlink()


def test_a_diverged_run_has_a_code_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = {"status": "diverged", "tokens": 8, "wall_s": 1.0, "tokens_per_s": 8.0, "validation_loss": float("nan")}
    result["diagnosis"] = {"kind": "diverged", "site": 3, "layer": "blocks.3", "figure": "gradient norm inf"}
    monkeypatch.setattr(train_command, "_run", lambda *_: result)
    seen = here("train")
    assert seen.code == 3
    assert "diverged, beginning at sublayer 3 (blocks.3): gradient norm inf" in seen.out
    assert "addnorm generate" not in seen.out
    seen = here("train", "--json")
    assert seen.code == 3
    assert '"validation_loss": "nan"' in seen.out


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["schemes", "pre-norm"], ["compare", "--print-config"]], ids=" ".join)
def test_a_closed_pipe_is_no_error(words, tmp_path):
    command = [sys.executable, "-m", "addnorm", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.slow
def test_a_terminal_without_the_signs_gets_others(tmp_path):
    command = [sys.executable, "-m", "addnorm", "schemes", "pre-norm"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert b"pre-norm" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_and_resume_ends_it(number, code, tmp_path, monkeypatch):
    command = [sys.executable, "-m", "addnorm", "train", "--num-layers", "1", "--d-model", "16", "--context", "16"]
    command += ["--tokens", "20000", "--evaluation-tokens", "512", "--out", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        _wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 3')
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == code
    assert said.startswith("addnorm: interrupted by SIG") and len(said.splitlines()) == 1
    monkeypatch.chdir(tmp_path)
    assert here("train", "--resume", "--out", "run").code == 0
    assert (tmp_path / "run" / "result.json").exists()


def _wait_for(path, text):
    for _ in range(1200):  # two minutes: importing torch takes 2 s alone and 20 s beside busy neighbours
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} never held {text}")


def test_failed_runs_of_a_comparison_have_a_code_of_their_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for failures, code in (([], 0), ([{"run": "plain-L2/seed-0", "error": "killed"}], 4)):
        results = {"failures": failures, "arms": []}
        monkeypatch.setattr(compare_command, "_run", lambda *_, results=results: (results, ""))
        seen = here("compare", "--json")
        assert (seen.code, json.loads(seen.out)) == (code, results)
