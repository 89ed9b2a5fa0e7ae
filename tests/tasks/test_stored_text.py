"""Language modeling on a token store."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.data.tokens.token_store_build import build
from addnorm.data.tokens.tokenizing import TokenizeConfig
from addnorm.errors import UserError
from addnorm.tasks import language_modeling
from addnorm.training.evaluation import evaluate_run
from addnorm.training.load import load_run
from addnorm.training.run import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text and two stores of it."""
    folder = tmp_path_factory.mktemp("stores")
    with (folder / "a.jsonl").open("w") as file:
        for i in range(500):
            file.write(json.dumps({"text": f"{i} times {i % 7} is {i * (i % 7)}"}) + "\n")
    for name, tokenizer in (("bytes", "byte"), ("bpe", "bpe:300")):
        build(
            TokenizeConfig(source=str(folder / "a.jsonl"), tokenizer=tokenizer, shard_tokens=3000, held_out=0.1),
            folder / name,
        )
    return folder


def config(folder, **changes):
    small = {"num_layers": 1, "d_model": 16, "num_heads": 2, "context": 8, "batch_size": 5, "evaluation_tokens": 256}
    return RunConfig(**({"data": str(folder / "bytes"), "signals": 0, "evaluations": 2, "steps": 24} | small | changes))


def test_an_epoch_of_batches_is_every_window_once(folder):
    problem = tasks.prepare(config(folder))
    tokens = problem.corpus.train.tokens
    count = (len(tokens) - 1) // 8
    seen = torch.cat([problem.train_batch(step)[0] for step in range(-(-count // 5))])[:count]
    wanted = tokens[: count * 8].reshape(count, 8)
    assert sorted(map(bytes, seen.numpy().astype(np.uint8))) == sorted(map(bytes, wanted))


def test_the_chance_loss_is_that_of_the_training_tokens(folder):
    problem = tasks.prepare(config(folder))
    tokens = problem.corpus.train.tokens
    counts = np.bincount(tokens[: len(tokens)], minlength=256) + 1.0
    targets = torch.cat([batch.ravel() for _, batch in problem._validation]).numpy()
    assert problem.chance_loss == pytest.approx(-np.log(counts / counts.sum())[targets].mean(), rel=1e-12)


class Off(Exception):
    """The machine goes off."""


@pytest.mark.parametrize("stopped_after", [7, 20])
def test_a_run_resumed_within_an_epoch_ends_bit_for_bit_the_same(folder, stopped_after, tmp_path):
    choices = config(folder, saves=4, steps=24, context=64, batch_size=10)  # an epoch has 12 steps
    whole = train(choices, tmp_path / "whole")

    def stop(now):
        if now.step == stopped_after:
            raise Off

    with pytest.raises(Off):
        train(choices, tmp_path / "broken", on_progress=stop)
    resumed = train(choices, tmp_path / "broken", resume=True)
    assert 12 < len(tasks.prepare(choices).corpus.train) / 640 < 13
    assert resumed["validation_loss"] == whole["validation_loss"]
    one, other = (load_run(tmp_path / name).model.state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_evaluated_on_its_store_and_on_a_text(folder, tmp_path):
    train(config(folder, data=str(folder / "bpe"), tokenizer="bpe:300"), tmp_path / "run")
    scores = {score["name"]: score for score in evaluate_run(tmp_path / "run")["scores"]}
    assert 0 < scores["bits per byte"]["baseline"] < scores["bits per byte"]["value"] < 8
    text = tmp_path / "a.txt"
    text.write_text("".join(f"{i} times {i} is {i * i}\n" for i in range(500)))
    assert evaluate_run(tmp_path / "run", data=str(text), baselines=False)["scores"][0]["value"] < 8
    with pytest.raises(UserError, match="another tokenizer than the run was trained with"):
        evaluate_run(tmp_path / "run", data=str(folder / "bytes"))


def test_the_store_must_fit_the_run(folder):
    with pytest.raises(UserError, match="made with the tokenizer bpe:300, the run has byte; use --tokenizer bpe:300"):
        tasks.prepare(config(folder, data=str(folder / "bpe")))
    with pytest.raises(UserError, match="context=100000 needs 100001 or more"):
        tasks.prepare(config(folder, context=100_000))


def test_large_held_out_splits_are_read_in_part(folder, monkeypatch):
    whole = tasks.prepare(config(folder)).corpus
    monkeypatch.setattr(language_modeling, "HELD_OUT_TOKENS", 400)
    part = tasks.prepare(config(folder)).corpus
    assert len(part.validation) == len(part.test) == 400 < len(whole.test)
    assert len(part.train) == len(whole.train)


def test_what_must_be_streamed_is_sent_to_tokenize(folder, tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"a.jsonl is not plain text; make a token store of it, addnorm tokenize .*a\.js"
    ):
        tasks.prepare(config(folder, data=str(folder / "a.jsonl")))
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(UserError, match="has JSON lines or gzipped files; make a token store"):
        tasks.prepare(config(folder, data=str(tmp_path)))
    monkeypatch.setattr("addnorm.data.texts.plain_text.LARGEST", 100)
    (tmp_path / "a.txt").write_text("to be " * 30)
    for data in (tmp_path / "a.txt", tmp_path):
        with pytest.raises(UserError, match="has 180 bytes, more than the 100 that are held in memory; make a token"):
            tasks.prepare(config(folder, data=str(data)))


def test_another_store_under_the_same_name_does_not_go_on(folder, tmp_path):
    text = tmp_path / "a.jsonl"
    text.write_text((folder / "a.jsonl").read_text())
    build(TokenizeConfig(source=str(text), held_out=0.1), tmp_path / "store")
    choices = replace(config(folder, saves=2), data=str(tmp_path / "store"))

    def stop(now):
        if now.step == 20:
            raise Off

    with pytest.raises(Off):
        train(choices, tmp_path / "run", on_progress=stop)
    (tmp_path / "store").rename(tmp_path / "old")
    text.write_text((folder / "a.jsonl").read_text().replace("times", "plus"))
    build(TokenizeConfig(source=str(text), held_out=0.1), tmp_path / "store")
    with pytest.raises(UserError, match="was trained on other data"):
        train(choices, tmp_path / "run", resume=True)
