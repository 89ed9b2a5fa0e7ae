"""One process at a time in a folder, from before the first thing is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from addnorm.errors import UserError
from addnorm.training import lock
from addnorm.training.lock import FolderLock
from addnorm.training.run import train

START = """
import sys
from pathlib import Path
from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.training.run import train
print("loaded", flush=True)
input()
tiny = dict(d_model=8, num_heads=2, num_layers=1, context=8, batch_size=2, steps=40)
tiny |= dict(evaluations=1, evaluation_tokens=64)
try:
    print(train(RunConfig(**tiny, signals=0, score_items=0), Path(sys.argv[1]))["status"])
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_of_two_that_start_at_once_on_a_new_folder_one_trains(tmp_path: Path) -> None:
    words = [sys.executable, "-c", START, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(words, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "loaded\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=120)[0].strip() for process in both)
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
