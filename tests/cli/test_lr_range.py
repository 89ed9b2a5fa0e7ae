"""`addnorm lr-range` as a user runs it."""

from __future__ import annotations

import json
import re

from command_line import here

SMALL = ["--num-layers", "1", "--d-model", "16", "--context", "16", "--batch-size", "4"]


def test_it_prints_a_table_and_a_rate_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = here("lr-range", *SMALL, "--points", "60")
    assert seen.code == 0, seen.err
    assert "learning rate" in seen.out and "steepest fall" in seen.out and "diverges" in seen.out
    assert re.search(r"suggested: --learning-rate \d\.\de[-+]\d\d", seen.out)
    assert not list(tmp_path.iterdir())


def test_json_and_the_file_hold_the_same_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = here("lr-range", *SMALL, "--points", "60", "--json", "--out", "range.json")
    assert seen.code == 0, seen.err
    told, stored = json.loads(seen.out), json.loads((tmp_path / "range.json").read_text())
    assert stored.pop("config")["d_model"] == 16
    assert told == stored
    assert told["suggested"] in told["rates"]


def test_a_range_without_a_fall_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = here("lr-range", *SMALL, "--points", "20", "--low", "1e3", "--high", "1e4")
    assert seen.code == 0 and "no rate of the range lowered the loss" in seen.out


def test_a_wrong_range_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = here("lr-range", *SMALL, "--low", "1", "--high", "0.1")
    assert seen.code == 2 and seen.is_one_line_of_error()


def test_training_says_that_it_stopped_early(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--tokens", "12800", "--evaluations", "20", "--evaluation-tokens", "256", "--patience", "1"]
    seen = here("train", *SMALL, *few, "--learning-rate", "1.0", "--schedule", "constant", "--out", "run")
    assert seen.code in (0, 3), seen.err
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["status"] == "stopped early"
    assert f"stopped early    the checkpoint of the lowest validation loss, {stored['lowest_validation_loss']:.4f}" in (
        seen.out
    )
