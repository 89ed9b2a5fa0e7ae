"""Which data an evaluation is of, and which folder it can be of."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from addnorm import tasks
from addnorm.errors import UserError
from addnorm.reports.scores import scores_table
from addnorm.training.evaluation import evaluate_run
from addnorm.training.run import train
from command_line import here

SHAPE = {"d_model": 16, "num_heads": 2, "num_layers": 1, "context": 8, "batch_size": 2, "steps": 2, "score_items": 0}


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A text named from where it lies, and a run that was trained on it."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    text = tmp_path / "home" / "text.txt"
    text.write_text("".join(f"The number {n} comes before {n + 1}.\n" for n in range(2000)))
    train(tasks.config("language-modeling", data="text.txt", **SHAPE), tmp_path / "run")
    return text


def stored(folder) -> bool:
    return (folder / "scores-test.json").exists()


def test_data_that_changed_under_their_name_are_not_the_runs_own(text, tmp_path):
    evaluate_run(tmp_path / "run")
    assert stored(tmp_path / "run")
    (tmp_path / "run" / "scores-test.json").unlink()
    text.write_text(text.read_text().replace("number", "figure"))
    with pytest.raises(UserError, match=r"'text.txt' is not what .*run was trained with: .*--data"):
        evaluate_run(tmp_path / "run")
    assert evaluate_run(tmp_path / "run", data="text.txt")["data"] == "text.txt"
    assert not stored(tmp_path / "run")


def test_the_same_text_in_another_place_is_the_runs_own(text, tmp_path, monkeypatch):
    (tmp_path / "away").mkdir()
    text.rename(tmp_path / "away" / "text.txt")
    with pytest.raises(UserError, match=r"text.txt does not exist .* If they lie elsewhere, name the data .*--data"):
        evaluate_run(tmp_path / "run")
    moved = str(tmp_path / "away" / "text.txt")
    assert evaluate_run(tmp_path / "run", data=moved)["data"] == moved
    assert stored(tmp_path / "run")


def test_a_run_from_before_its_data_were_noted_is_evaluated_as_ever(text, tmp_path):
    path = tmp_path / "run" / "run.json"
    about = json.loads(path.read_text())
    about.pop("data_sha256")
    (tmp_path / "run" / "manifest.json").unlink()
    path.write_text(json.dumps(about))
    evaluate_run(tmp_path / "run")
    assert stored(tmp_path / "run")


@pytest.mark.parametrize("command", [("evaluate",), ("predict", "some text"), ("generate", "some text")])
def test_a_comparisons_folder_is_answered_with_its_runs(command, tmp_path):
    inside = [tmp_path / "runs" / f"{scheme}-L1-lr0.001" / "seed-0" for scheme in ("post-norm", "pre-norm")]
    for folder in inside:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    seen = here(command[0], str(tmp_path), *command[1:])
    assert seen.code == 2 and seen.is_one_line_of_error()
    assert re.search(f"is a comparison; its runs are {inside[0]}, {inside[1]}; give the folder of a run", seen.err)


def test_the_data_are_named_as_they_are_written_and_in_one_line():
    name = "texts/[2024] a very long name of a folder that is wider than the table/part [bold].txt"
    score = {"name": "BLEU [13a]", "value": 12.5, "baseline": None, "baseline_name": "", "note": "", "better": "higher"}
    result = {"task": "translation", "scheme": "mhc", "split": "test", "data": name, "limit": None, "scores": [score]}
    with Console(width=200, file=io.StringIO()) as console:
        console.print(scores_table(result))
    said = console.file.getvalue()
    assert said.startswith(f"translation, mhc: test split of {name}, all items\n")
    assert "BLEU [13a]" in said
