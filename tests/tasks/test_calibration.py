"""Every task calibrates a scheme that sets initial values from data on a real batch of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.schemes.admin import AdminConnection
from addnorm.training.description import StartWarning
from addnorm.training.load import load_run
from addnorm.training.run import train

SHAPE = {"d_model": 24, "num_heads": 2, "num_layers": 2, "batch_size": 8, "steps": 2, "init": "xavier"}
BRIEF = {"evaluations": 1, "evaluation_tokens": 256, "signals": 0, "score_items": 0, "warm_up": 0.5}
PROFILED = "admin(growth=profile)"


def write_pairs(path: Path, header: str) -> None:
    rows = (f"word {n} and {n + 1}\t{('odd', 'even')[n % 2]}\n" for n in range(200))
    path.write_text(header + "".join(rows))


def write_judged(path: Path) -> None:
    rows = (f"word {n}\tand {n + 1}\t{('same', 'other')[n % 2]}\n" for n in range(200))
    path.write_text("first\tsecond\tlabel\n" + "".join(rows))


def write_questions(path: Path) -> None:
    entries = []
    for number in range(60):
        answers = [{"text": str(number), "answer_start": 7}]
        entry = {"id": str(number), "question": "Which number?", "answers": answers}
        entries.append({"context": f"It was {number}, they said.", "qas": [entry]})
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "numbers", "paragraphs": entries}]}))


@pytest.fixture
def config_of(tmp_path: Path):
    """A config with data of two kilobytes, or with the digits that a package brings."""
    write_pairs(tmp_path / "labels.tsv", "text\tlabel\n")
    write_pairs(tmp_path / "pairs.tsv", "")
    write_judged(tmp_path / "judged.tsv")
    write_questions(tmp_path / "questions.json")
    (tmp_path / "text.txt").write_text("The quality of mercy is not strained.\n" * 400)
    data = {
        "language-modeling": "text.txt",
        "translation": "pairs.tsv",
        "classification": "labels.tsv",
        "entailment": "judged.tsv",
        "question-answering": "questions.json",
    }

    def make(task: str, scheme: str) -> RunConfig:
        name = task.partition("(")[0]
        own: dict[str, Any] = {"tokenizer": "byte", "data": str(tmp_path / data[name])} if name in data else {}
        own |= {"data": "digits"} if name.startswith("image") else {}
        return tasks.config(task, scheme=scheme, **(SHAPE | BRIEF | own))

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        "language-modeling",
        "translation",
        "classification",
        "entailment(pair=siamese)",
        "question-answering",
        "image-classification",
        "image-generation(method=diffusion, patch=4)",
        "image-generation(method=autoregressive, patch=4)",
        "video-prediction",
    ],
)
def test_a_task_calibrates_on_its_first_batch_and_trains(config_of, tmp_path, task):
    config = config_of(task, PROFILED)
    problem = tasks.prepare(config)
    model = problem.build()
    problem.calibrate_(model)
    omegas = torch.tensor([m.omega.detach().mean() for m in model.modules() if isinstance(m, AdminConnection)])
    assert omegas.isfinite().all() and omegas.min() > 0  # not a number before
    assert len(omegas.unique()) > 2  # a site's own variance, not one constant
    assert train(config, tmp_path / "run")["status"] == "finished"


def test_factors_that_were_loaded_are_not_calibrated_again(config_of, tmp_path):
    config = config_of("language-modeling", PROFILED)
    train(config, tmp_path / "first")
    start = {"init": str(tmp_path / "first"), "learning_rate": 0.0}
    train(replace(config, seed=5, **start), tmp_path / "next")
    first, after = (load_run(tmp_path / name).model.state_dict() for name in ("first", "next"))
    omegas = [name for name in first if name.endswith("omega")]
    assert omegas and all(torch.equal(first[name], after[name]) for name in omegas)
    with pytest.warns(StartWarning):
        train(replace(config, scheme="admin(growth=profile, norm=rms)", **start), tmp_path / "other")
    other = load_run(tmp_path / "other").model.state_dict()
    assert all(other[name].isfinite().all() and not torch.equal(first[name], other[name]) for name in omegas)
