from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.tasks.text.encoder_problem import EncoderProblem
from addnorm.training.description import StartWarning
from addnorm.training.evaluation import evaluate_run
from addnorm.training.interruption import Interrupted
from addnorm.training.load import load_run
from addnorm.training.run import train

KINDS = {"fruit": ("apple", "pear", "plum"), "tool": ("saw", "drill", "file"), "animal": ("cat", "dog", "cow")}
"""A label is what the word before "not" is, whatever stands after it: word counts do not tell."""


def prepared(config: RunConfig) -> Any:
    return tasks.prepare(config)


def rows(number: int, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    words = [(word, kind) for kind, group in KINDS.items() for word in group]
    found = []
    for _ in range(number):
        (one, kind), (other, _) = draw.sample(words, 2)
        found.append((f"{one} not {other}" + " !" * draw.randrange(3), kind))
    return found


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in pairs))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for name, number in (("train", 600), ("validation", 60), ("test", 60)):
        write(folder / f"{name}.tsv", rows(number, seed=len(name)))
    return folder


@pytest.fixture(scope="module")
def config_of(folder):
    def make(task="classification", **changes):
        fields = {"data": str(folder), "init": "xavier", "context": 24, "batch_size": 16, "d_model": 16, "num_heads": 2}
        fields |= {"num_layers": 2, "steps": 3, "learning_rate": 1e-2, "evaluations": 1, "tokenizer": "bpe:320"}
        return tasks.config(task, **(fields | changes))

    return make


@pytest.fixture(scope="module")
def run(config_of, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(config_of(steps=200), folder)
    return folder


@pytest.mark.slow
def test_it_learns_order_which_word_counts_do_not_tell(run):
    scores = {score["name"]: score for score in evaluate_run(run)["scores"]}
    assert scores["accuracy"]["baseline_name"] == "bag of words, logistic regression"
    assert scores["accuracy"]["baseline"] < 75  # of two kinds in a text it cannot know which stands first
    assert scores["accuracy"]["value"] > 95
    assert scores["macro-F1"]["value"] > 95
    assert "most frequent label" in scores["accuracy"]["note"]


def test_a_text_is_predicted_with_the_probabilities_of_all_labels(run):
    loaded = load_run(run)
    answer = loaded.reader.predict(loaded.model, "saw not cat", loaded.config)
    assert answer.values["label"] == "tool"
    assert answer.text.startswith("tool (")
    assert set(answer.values["probabilities"]) == set(KINDS)
    assert sum(answer.values["probabilities"].values()) == pytest.approx(1)


def test_one_text_that_is_not_empty_is_predicted(run):
    loaded = load_run(run)
    for given, beside, message in ((" ", None, "empty"), ("a", "b", "one text")):
        with pytest.raises(UserError, match=message):
            loaded.reader.predict(loaded.model, given, loaded.config, beside)


def test_a_label_that_training_did_not_have_is_named(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("train", "validation"):
        write(other / f"{name}.tsv", rows(30, seed=1))
    write(other / "test.tsv", [*rows(3, seed=2), ("rose not cat", "flower")])
    with pytest.raises(UserError, match=r"label 'flower' of test .* record 4 .*animal, fruit, tool"):
        evaluate_run(run, data=str(other))
    with pytest.raises(UserError, match="flower"):
        prepared(tasks.config("classification", data=str(other), init="xavier", tokenizer="byte"))


def test_other_data_keep_the_order_of_the_runs_labels(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("train", "validation", "test"):
        write(other / f"{name}.tsv", [row for row in rows(60, seed=5) if row[1] != "animal"])
    assert evaluate_run(run, data=str(other), baselines=False)["scores"][0]["value"] > 95


def test_a_damaged_file_is_named_with_its_line(config_of, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b"\n')
    with pytest.raises(UserError, match=r"bad\.jsonl.*2"):
        prepared(config_of(data=str(path)))


def test_columns_may_be_named(config_of, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,said,mood\n" + "".join(f"{i},{text},{label}\n" for i, (text, label) in enumerate(rows(99, 0))))
    problem = prepared(config_of("classification(text=said, label=mood)", data=str(path)))
    assert problem.reader.targets.names == ("animal", "fruit", "tool")


def test_batches_are_a_function_of_seed_and_step(config_of):
    one, again, other = (prepared(config_of(seed=seed)) for seed in (0, 0, 1))
    again.train_batch(1)
    for step in (0, 50):
        assert all(torch.equal(a, b) for a, b in zip(one.train_batch(step), again.train_batch(step), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(one.train_batch(step), other.train_batch(step), strict=False))
    assert [len(part) for part in one.train_batch(0)] == [16, 16, 16]


def test_truths_stay_beside_their_texts(config_of):
    problem = prepared(config_of())
    ids, _, truths = problem.train_batch(2)
    labels = dict(rows(600, seed=len("train")))
    for row, truth in zip(ids.numpy(), truths, strict=True):
        text = problem.reader.tokenizer.decode(
            row[1 : int(np.flatnonzero(row == problem.reader.tokenizer.frame.sep)[0])]
        )
        assert problem.reader.targets.names[truth] == labels[text]


def test_the_chance_loss_is_the_entropy_of_the_labels(config_of):
    problem = prepared(config_of())
    assert problem.chance_loss == pytest.approx(np.log(3), abs=0.05)  # three labels, about as frequent
    assert problem.chance_name == "label frequencies"


def test_outputs_come_in_the_order_of_the_items(config_of):
    problem = prepared(config_of(evaluation_tokens=10**6))
    assert isinstance(problem, EncoderProblem)
    model = problem.build().eval()
    together = problem.outputs(model, problem.validation)
    for number in (0, 17):
        alone = problem.encoder.outputs(model, problem.validation.batch([number]))[0]
        assert torch.allclose(together[number], alone, atol=1e-5)  # padding changes how attention sums


@pytest.mark.parametrize(
    "scheme", ["post-norm", "mhc", "attention-residuals", "by-layer(first=deep-norm, rest=pre-norm)"]
)
def test_any_scheme_trains(config_of, tmp_path, scheme):
    result = train(config_of(scheme=scheme, score_items=0), tmp_path / "run")
    assert result["status"] == "finished"
    assert np.isfinite(result["validation_loss"])


def test_an_interrupted_run_goes_on_bit_for_bit(config_of, tmp_path):
    config = config_of(steps=8, dropout=0.1)

    def interrupt(progress):
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, tmp_path / "cut", on_progress=interrupt)
    resumed, whole = train(config, tmp_path / "cut", resume=True), train(config, tmp_path / "whole")
    assert resumed["validation_loss"] == whole["validation_loss"]
    assert resumed["scores"] == whole["scores"]


def test_a_run_goes_on_from_another_ones_weights_and_labels(run, config_of, tmp_path):
    result = train(config_of(init=str(run), tokenizer=f"hf:{run}", steps=1, learning_rate=0.0), tmp_path / "next")
    before = json.loads((run / "result.json").read_text())
    assert result["validation_loss"] == pytest.approx(before["validation_loss"], rel=1e-5)


def test_a_language_models_body_may_be_started_from(config_of, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(text for text, _ in rows(400, seed=0)))
    shape = {"d_model": 16, "num_heads": 2, "num_layers": 2, "steps": 2, "evaluations": 1, "context": 16}
    train(RunConfig(data=str(tmp_path / "text.txt"), **shape), tmp_path / "language")
    start = {"init": str(tmp_path / "language"), "tokenizer": f"hf:{tmp_path / 'language'}"}
    with pytest.warns(StartWarning, match="earlier tokens only, here every token"):
        train(config_of(**start), tmp_path / "run")
    started = json.loads((tmp_path / "run" / "run.json").read_text())["started_from"]
    assert "new: head.weight, head.bias" in started


def test_a_context_longer_than_the_table_of_positions_is_refused(config_of):
    with pytest.raises(UserError, match=r"context=24.*max_tokens=20"):
        prepared(config_of(position="learned", max_tokens=20)).build()


def test_samples_are_written_beside_the_scores(run):
    files = evaluate_run(run)["files"]
    lines = Path(files[0]).read_text().splitlines()
    assert len(lines) == 20
    text, truth, answer = lines[0].split("\t")
    assert truth in KINDS and " not " in text and answer.endswith("%)")


def test_frozen_layers_keep_the_weights_they_start_from(run, config_of, tmp_path):
    config = config_of("classification(frozen=1)", init=str(run), tokenizer=f"hf:{run}", learning_rate=1e-2)
    train(config, tmp_path / "next")
    before, after = load_run(run).model.state_dict(), load_run(tmp_path / "next").model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("embedding" in name or "blocks.0." in name or "blocks.1." in name for name in moved)
    with pytest.raises(UserError, match="frozen=3"):
        prepared(config_of("classification(frozen=3)")).build()


@pytest.mark.parametrize(
    "task", ["classification(pooling=max)", "classification(frozen=-1)", "classification(frozen=0.5)"]
)
def test_what_is_not_allowed_is_refused(task):
    with pytest.raises(UserError):
        tasks.parse(task)
