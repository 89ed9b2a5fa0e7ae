"""One process at a time in a folder, from before the first thing is read."""

from __future__ import annotations

import json
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.training import lock
from addnorm.training.lock import FolderLock
from addnorm.training.run import train

TINY = dict(d_model=8, num_heads=2, num_layers=1, context=8, batch_size=2, steps=40, evaluations=1)
TINY |= dict(evaluation_tokens=64, signals=0, score_items=0)


def say_what_came(folder: Path) -> str:
    """How training in a folder ended, or why it did not begin."""
    try:
        return str(train(RunConfig(**TINY), folder)["status"])
    except UserError as error:
        return str(error)


def train_apart(folder: Path, pipe: Connection) -> None:
    """Say that all is loaded, wait for a word, and train."""
    pipe.send("loaded")
    pipe.recv()
    pipe.send(say_what_came(folder))


@pytest.mark.slow
def test_of_two_that_start_at_once_on_a_new_folder_one_trains(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    mine, others = spawn.Pipe()
    process = spawn.Process(target=train_apart, args=(tmp_path / "run", others), daemon=True)
    process.start()
    assert mine.poll(120) and mine.recv() == "loaded"
    mine.send("now")
    said = [say_what_came(tmp_path / "run")]
    assert mine.poll(120)
    said.append(mine.recv())
    process.join()
    assert "finished" in said
    assert any("another process" in text or "exists already" in text for text in said), said
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["event"] == "end" for row in rows) == 1


def test_the_folder_is_locked_before_the_data_are_read(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from addnorm import tasks

    def prepare(*args, **more):
        with pytest.raises(UserError, match="another process"):
            FolderLock(tmp_path / "run").claim()
        raise UserError("no data")

    monkeypatch.setattr(tasks, "prepare", prepare)
    with pytest.raises(UserError, match="no data"):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # a mistake leaves nothing behind


def test_only_what_was_made_and_is_empty_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with FolderLock(tmp_path / "old" / "a" / "b"):
        pass
    assert list((tmp_path / "old").iterdir()) == []
    with FolderLock(tmp_path / "old" / "a" / "b"):
        (tmp_path / "old" / "a" / "b" / "kept").touch()
    assert (tmp_path / "old" / "a" / "b" / "kept").exists()


def test_a_lock_on_a_folder_that_was_taken_away_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = tmp_path / "run", os.open

    def gone_in_between(path, *args, **more):
        descriptor = real(path, *args, **more)
        if Path(path) == folder and not seen:
            seen.append(path)
            folder.rmdir()  # the first process gave up between our opening and our locking
        return descriptor

    seen: list[str] = []
    monkeypatch.setattr(lock.os, "open", gone_in_between)
    with FolderLock(folder):
        assert folder.is_dir()
        with pytest.raises(UserError, match="another process"):
            FolderLock(folder).claim()
