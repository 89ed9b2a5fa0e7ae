"""`addnorm tokenize`, and training and evaluation on what it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from command_line import here

SMALL = ["--num-layers", "1", "--d-model", "16", "--context", "16", "--evaluation-tokens", "256", "--evaluations", "2"]


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A folder with a file of records, and the command within it."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"body": f"{i} times {i % 7} is {i * (i % 7)}"}) for i in range(600)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_from_records_to_a_trained_and_evaluated_run(user):
    words = ["tokenize", "a.jsonl", "--text-field", "body", "--tokenizer", "bpe:300", "--out", "store"]
    seen = here(*words)
    assert seen.code == 0, seen.err
    assert "bpe:300, 300 entries, uint16" in seen.out
    assert seen.out.endswith("addnorm train --data store\n")
    seen = here("train", "--data", "store", *SMALL, "--steps", "20", "--out", "run")  # the store brings its tokenizer
    assert seen.code == 0, seen.err
    assert json.loads((user / "run" / "config.json").read_text())["tokenizer"] == "bpe:300"
    seen = here("evaluate", "run")
    assert seen.code == 0, seen.err
    assert "bits per byte" in seen.out and "Kneser-Ney" in seen.out
    assert here("predict", "run", "7 times").code == 0
    assert here("tokenize", "store", "--verify").out == "store: 3 shards are whole\n"
    assert here(*words).err.startswith("addnorm: error: store exists already")
    assert here("train", "--data", "store", "--tokenizer", "byte", *SMALL, "--out", "b").is_one_line_of_error()


def test_bad_records_are_told_in_one_line_and_left_out_on_request(user):
    with (user / "a.jsonl").open("a") as file:
        file.write('{"body": 3}\n')
    words = ["tokenize", "a.jsonl", "--text-field", "body", "--out", "store"]
    seen = here(*words)
    assert seen.code == 2 and seen.is_one_line_of_error()
    assert "a.jsonl, line 601: the field 'body' is int, not text" in seen.err
    assert not (user / "store").exists()
    seen = here(*words, "--skip-bad")
    assert seen.code == 0, seen.err
    assert "left out         1 bad records" in seen.out and "line 601" in seen.out
    told = json.loads(here(*words, "--skip-bad", "--resume", "--json").out)
    assert told["bad_records"]["count"] == 1


def test_what_is_missing_is_named(user):
    assert "SOURCE is missing" in here("tokenize", "--out", "store").err
    assert "--out is missing" in here("tokenize", "a.jsonl").err
    assert "--held-out" in here("tokenize", "a.jsonl", "--out", "s", "--held-out", "x").err
    assert "held_out=0.5 is not allowed" in here("tokenize", "a.jsonl", "--out", "s", "--held-out", "0.5").err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_store_and_resume_ends_it(number, code, user):
    with (user / "b.jsonl").open("w") as file:
        for i in range(400):
            file.write(json.dumps({"text": f"{i} " + "to be or not to be " * 5000}) + "\n")
    command = [sys.executable, "-m", "addnorm", "tokenize", "b.jsonl", "--out", "store"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        _wait_for(user / "store.part" / "progress.json")
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == code, said
    assert said.startswith("addnorm: interrupted by SIG") and "--resume --out store" in said
    assert not (user / "store").exists()
    assert here("tokenize", "b.jsonl", "--out", "store", "--resume").code == 0
    assert here("tokenize", "store", "--verify").code == 0


def _wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")
