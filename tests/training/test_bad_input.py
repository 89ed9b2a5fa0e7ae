from __future__ import annotations

import json
import os
import resource
from dataclasses import replace

import pytest

from addnorm.errors import UserError
from addnorm.training.load import load_model
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder


def test_a_folder_that_exists_is_not_touched(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UserError, match="name another folder"):
            train(tiny(), tmp_path / "run", resume=resume)
    assert os.listdir(tmp_path / "run") == ["thesis.txt"]


def test_a_run_is_not_overwritten(tiny, tmp_path):
    train(tiny(), tmp_path / "run")
    with pytest.raises(UserError, match="exists already; resume it"):
        train(tiny(), tmp_path / "run")


def test_an_empty_folder_will_do(tiny, tmp_path):
    train(tiny(), tmp_path)
    assert (tmp_path / "result.json").exists()


def test_a_file_is_no_folder(tiny, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        train(tiny(), tmp_path / "run")


def test_resume_with_a_changed_config_shows_the_difference(tiny, tmp_path):
    train(tiny(), tmp_path / "run")
    with pytest.raises(UserError, match=r"seed: 0 -> 3; learning_rate: 0\.002 -> 0\.1\. Resume with"):
        train(tiny(seed=3, learning_rate=0.1), tmp_path / "run", resume=True)


def test_resume_with_a_changed_text_is_refused(tiny, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 50)
    config = replace(tiny(saves=0), data=str(text))
    train(config, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    text.write_text("to be or not to be, this is the question\n" * 50)
    with pytest.raises(UserError, match="trained on other data"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scheme": "prenorm"}, "did you mean 'pre-norm'"),
        ({"task": "language-modelling"}, "did you mean 'language-modeling'"),
        ({"data": "no/such/file.txt"}, "does not exist"),
        ({"tokenizer": "words"}, "use byte, bpe:SIZE"),
        ({"context": 100_000}, "use a longer text or a smaller context"),
        ({"position": "learned", "max_tokens": 8}, "max_tokens"),
        ({"scheme": "pre-norm(nrm=rms)"}, "did you mean 'norm'"),
    ],
)
def test_what_is_not_allowed_leaves_no_folder(tiny, tmp_path, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        train(replace(tiny(), **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_large_a_model_is_a_clear_error(tiny, tmp_path):
    # 2^50 bytes of embedding: more than there are addresses, so that no system grants them and then runs out.
    with pytest.raises(UserError, match=r"memory is too short for d_model=1099511627776.*make one of them smaller"):
        train(tiny(d_model=2**40, num_heads=2**38), tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"sheme": "pre-norm"}'])
def test_a_damaged_config_is_a_clear_error(tiny, tmp_path, content):
    train(tiny(), tmp_path / "run")
    (tmp_path / "run" / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.json"):
        train(tiny(seed=1), tmp_path / "run", resume=True)
    (tmp_path / "run" / "manifest.json").unlink()  # a run of an older release
    with pytest.raises(UserError, match=r"config\.json"):
        train(tiny(), tmp_path / "run", resume=True)


def test_a_full_disk_while_training_is_a_clear_error_and_the_run_goes_on_later(tiny, tmp_path):
    """Files may not grow beyond 12 kB: the metrics fit at first, a checkpoint never does."""
    config = tiny(saves=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot be written.*make room, then resume"):
            train(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert train(config, tmp_path / "run", resume=True)["status"] == "finished"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the always-full device is Linux's")
def test_a_row_that_does_not_fit_the_disk_is_a_clear_error(tmp_path):
    run = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device.*no checkpoint was written yet"):
        run.append({"event": "train", "step": 1})


def test_a_folder_that_may_not_be_written_is_a_clear_error(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train(tiny(), tmp_path / "file" / "run")


def test_rows_that_a_resume_writes_again_are_taken_out(tmp_path):
    run = RunFolder(tmp_path)
    rows = [("validation", 0), ("signal", 0), ("train", 1), ("signal", 1), ("train", 2), ("validation", 2), ("end", 1)]
    for event, step in rows:
        run.append({"event": event, "step": step, "loss": float("nan")})
    run.rewind(1)
    assert [(row["event"], row["step"]) for row in run.rows()] == [("validation", 0), ("signal", 0), ("train", 1)]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"] == "nan"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**63},
        {"seed": -1},
        {"seed": 0.5},
        {"learning_rate": -0.1},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"tokens": 0},
        {"tokens": 1.5},
        {"seconds": 0},
        {"seconds": float("inf")},
        {"warm_up": 1.0},
        {"saves": -1},
        {"signals": 0.5},
        {"schedule": "cosin"},
        {"precision": "float16"},
        {"clip_norm": float("inf")},
    ],
)
def test_a_number_that_is_not_allowed_is_refused(tiny, changes):
    with pytest.raises(UserError, match=next(iter(changes))):
        tiny(**changes)


def test_two_processes_do_not_train_the_same_run(tiny, tmp_path):
    others = []

    def resume_too(progress):
        if progress.step == 3:
            with pytest.raises(UserError, match="is being trained by another process"):
                train(tiny(), tmp_path / "run", resume=True)
            others.append(progress.step)

    train(tiny(), tmp_path / "run", on_progress=resume_too)
    assert others == [3]
    (tmp_path / "run" / "result.json").unlink()
    assert train(tiny(), tmp_path / "run", resume=True)["status"] == "finished"  # the lock went with the run
