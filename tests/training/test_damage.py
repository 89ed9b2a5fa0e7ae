"""One flipped bit in any file of a run: named, or without any effect; never believed, never a bug."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from addnorm.cli import main
from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.interop.init_sources import shape_of
from addnorm.manifest import DamageWarning
from addnorm.training.checkpoint import CheckpointWarning
from addnorm.training.load import DivergedWarning, load_model
from addnorm.training.metrics import FILE as METRICS
from addnorm.training.metrics import Metrics
from addnorm.training.run import train

PLACES = (0.1, 0.5, 0.9)


@pytest.fixture
def ended(tiny: Callable[..., RunConfig], tmp_path: Path) -> tuple[RunConfig, Path]:
    """A run whose best checkpoint is not its last."""
    config = tiny(tokenizer="bpe:270", tokens=40 * 64, evaluations=8, saves=8, learning_rate=0.8, warm_up=0.9)
    train(config, tmp_path / "whole")
    pointers = [(tmp_path / "whole" / "checkpoints" / name).read_text() for name in ("best", "last")]
    assert pointers[0] != pointers[1]
    return config, tmp_path / "whole"


def files_of(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())


def flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


def answer(folder: Path) -> torch.Tensor:
    model, tokenizer, _ = load_model(folder)
    return model(torch.from_numpy(tokenizer.encode("the king and the fool"))[None])


def test_no_flipped_bit_changes_what_a_model_answers_without_a_word(ended, tmp_path):
    _, whole = ended
    expected = answer(whole)
    copy = tmp_path / "copy"
    for file in files_of(whole):
        for share in PLACES:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(whole, copy)
            flip(copy / file, share)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    found = answer(copy)
                except UserError as error:
                    assert file.name in str(error) or file.parent.name in str(error), (file, error)
                    continue
            if not torch.equal(found, expected):
                assert any(file.name in str(item.message) or file.parent.name in str(item.message) for item in told)


@pytest.mark.slow
def test_a_run_goes_on_from_any_flipped_bit_or_names_the_file(ended, tmp_path):
    config, whole = ended
    stopped, copy = tmp_path / "stopped", tmp_path / "copy"
    shutil.copytree(whole, stopped)
    (stopped / "result.json").unlink()
    expected, rows = answer(stopped), events(stopped)
    for file in files_of(stopped):
        for share in PLACES:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(stopped, copy)
            flip(copy / file, share)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                assert train(config, copy, resume=True)["status"] == "finished", file
            said = " ".join(str(item.message) for item in told)
            if file.parts[-1] != "best" and "step-" not in str(file):
                assert torch.equal(answer(copy), expected), file
            if events(copy) != rows:
                assert file.name in said or "step-" in str(file), (file, said)


def events(folder: Path) -> list[tuple[Any, ...]]:
    return [(row["event"], row["step"], row.get("loss")) for row in Metrics(folder / METRICS).rows()]


def test_a_changed_config_is_named_and_not_believed(ended):
    _, run = ended
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"rotary_base": 10100.0}, indent=2) + "\n")
    with pytest.raises(UserError, match=r"config\.json: it has another SHA-256"):
        load_model(run)
    assert main(["train", "--resume", f"--out={run}"]) == 2


def test_a_lost_or_damaged_best_never_is_the_newest_without_a_word(ended):
    _, run = ended
    expected = answer(run)
    (run / "checkpoints" / "best").unlink()
    with pytest.warns(CheckpointWarning, match=r"best is damaged: it does not name"):
        assert torch.equal(answer(run), expected)


def test_a_lost_tokenizer_is_made_again_by_a_resume(ended):
    config, run = ended
    expected = answer(run)
    (run / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json: it is missing"):
        load_model(run)
    with pytest.warns(DamageWarning, match=r"tokenizer\.json: it is missing; written anew"):
        train(config, run, resume=True)
    assert torch.equal(answer(run), expected)


def test_a_damaged_result_is_taken_anew(ended):
    config, run = ended
    flip(run / "result.json", 0.5)
    before = json.loads((run / "manifest.json").read_text())
    with pytest.warns(DamageWarning, match=r"result\.json.*taken anew"):
        assert train(config, run, resume=True)["status"] == "finished"
    assert before["files"].keys() == json.loads((run / "manifest.json").read_text())["files"].keys()


@pytest.mark.parametrize("damage", ["flipped", "missing", "a row is gone"])
def test_damaged_metrics_are_told_and_the_whole_rows_kept(ended, damage):
    config, run = ended
    (run / "result.json").unlink()
    path, rows = run / METRICS, events(run)
    if damage == "flipped":
        flip(path, 0.5)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.warns(DamageWarning, match=rf"{METRICS}.*not what the checkpoint found"):
        assert train(config, run, resume=True)["status"] == "finished"
    left = events(run)
    assert len(left) == (1 if damage == "missing" else len(rows) - 1)
    assert set(map(str, left)) <= set(map(str, rows))


def test_a_run_of_an_older_release_is_read_as_it_is(ended):
    config, run = ended
    expected = answer(run)
    (run / "manifest.json").unlink()
    rows = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    (run / METRICS).write_text(
        "".join(json.dumps({k: v for k, v in row.items() if k != "crc32"}) + "\n" for row in rows)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(answer(run), expected)
        assert train(config, run, resume=True)["status"] == "finished"
        assert len(Metrics(run / METRICS).rows()) == len(rows)


def test_a_diverged_run_says_so_when_it_is_read_and_keeps_a_finite_checkpoint(tiny, tmp_path):
    config = tiny(learning_rate=1e30, clip_norm=0, saves=20, warm_up=0.0, tokens=60 * 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert train(config, tmp_path / "run")["status"] == "diverged"
    with (
        pytest.warns(DivergedWarning, match="diverged")
        if (tmp_path / "run" / "checkpoints").exists()
        else (pytest.raises(UserError, match="diverged before its first checkpoint"))
    ):
        model, _, _ = load_model(tmp_path / "run")
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "checkpoints/best"])
def test_what_starts_from_a_run_believes_no_damaged_file_of_it(ended, tmp_path, file):
    config, run = ended
    path = run / file
    path.unlink() if file.endswith("best") else flip(path, 0.5)
    with pytest.raises(UserError, match=Path(file).name):
        completed = {"init": str(run), "tokenizer": f"hf:{run}"}
        shape_of(str(run)) if file == "config.json" else train(replace(config, **completed), tmp_path / "next")
