"""How many threads `addnorm train` computes with."""

from __future__ import annotations

import json

import pytest
import torch

from addnorm.cli import threads as module
from addnorm.cli.threads import computing_with, threads
from addnorm.errors import UserError
from command_line import here

SMALL = ["--num-layers", "1", "--d-model", "16", "--context", "16", "--tokens", "256", "--evaluation-tokens", "64"]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores, and no wish in the environment."""
    monkeypatch.setattr(module, "_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_a_narrow_model_has_one_thread_and_a_wide_one_all_cores():
    assert threads(None, 128) == 1
    assert threads(None, 129) is None


def test_a_choice_goes_before_a_stored_number_and_that_before_the_rest(monkeypatch, tmp_path):
    (tmp_path / "environment.json").write_text('{"threads": 3}')
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads(None, 16) is None
    assert threads(None, 16, tmp_path) == 3
    assert threads(2, 16, tmp_path) == 2
    assert threads(None, 16, tmp_path / "nothing") is None
    (tmp_path / "environment.json").write_text('{"threads": 96}')
    assert threads(None, 16, tmp_path) == 8


@pytest.mark.parametrize("number", [0, -1, 9])
def test_more_threads_than_cores_and_fewer_than_one_are_refused(number):
    with pytest.raises(UserError, match=f"threads={number} is not allowed; use a whole number from 1 to 8"):
        threads(number, 16)


def test_threads_are_put_back_afterwards():
    before = torch.get_num_threads()
    with computing_with(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_run_notes_its_threads_and_a_resumed_one_keeps_them(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    assert here("train", *SMALL, "--threads", "2", "--out", "run").code == 0
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["threads"] == 2
    (tmp_path / "run" / "result.json").unlink()
    seen = here("train", "--resume", "--out", "run")
    assert seen.code == 0 and "threads" not in seen.err
    assert here("train", *SMALL, "--threads", "9", "--out", "other").code == 2
    assert not (tmp_path / "other").exists()
