from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.tasks import language_modeling


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(f"{i} times {i % 7} is {i * (i % 7)}" for i in range(800)))
    return path


@pytest.fixture
def task_of(text):
    def make(**changes):
        fields = {"data": str(text), "context": 8, "batch_size": 3, "evaluation_tokens": 400}
        return tasks.prepare(RunConfig(**(fields | changes)))

    return make


class Uniform(nn.Module):
    """All tokens alike; remembers whether it was in training."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size, self.was_training = vocab_size, []

    def forward(self, tokens: Tensor) -> Tensor:
        self.was_training.append(self.training)
        return torch.zeros(*tokens.shape, self.vocab_size)


class Unigram(Uniform):
    """The frequencies of the training tokens."""

    def __init__(self, task) -> None:
        super().__init__(task.vocab_size)
        counts = np.bincount(task.corpus.train.tokens, minlength=task.vocab_size) + 1.0
        self.logits = torch.from_numpy(np.log(counts / counts.sum()))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


def test_the_folder_is_the_registry():
    assert "language-modeling" in tasks.names()
    assert tasks.get("language-modeling") is language_modeling.LanguageModeling


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'language-modeling'"):
        tasks.prepare(RunConfig(task="language-modelling"))


def test_targets_are_the_inputs_moved_by_one(task_of):
    inputs, targets = task_of().train_batch(3)
    assert inputs.shape == targets.shape == (3, 8)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_batches_are_a_function_of_seed_and_step(task_of):
    one, again, other_seed = task_of(seed=1), task_of(seed=1), task_of(seed=2)
    again.train_batch(0)  # what was drawn before has no part in it
    for step in (0, 5, 10**6):
        assert torch.equal(one.train_batch(step)[0], again.train_batch(step)[0])
        assert not torch.equal(one.train_batch(step)[0], other_seed.train_batch(step)[0])
    assert not torch.equal(one.train_batch(0)[0], one.train_batch(1)[0])


def test_the_held_out_text_is_not_trained_on(task_of):
    task = task_of()
    train = task.tokenizer.decode(task.corpus.train.tokens)
    held_out = task.tokenizer.decode(task.corpus.validation.tokens)
    lines = held_out.strip().split("\n")[1:-1]
    assert len(lines) > 10
    assert not any(line in train for line in lines)


def test_the_loss_of_a_model_that_knows_nothing_is_the_logarithm_of_the_vocabulary(task_of):
    task = task_of()
    model = Uniform(task.vocab_size)
    assert task.loss(model, task.train_batch(0)).item() == pytest.approx(math.log(256), rel=1e-6)
    assert task.evaluate(model) == pytest.approx(math.log(256), rel=1e-6)


def test_a_model_of_the_frequencies_pays_the_unigram_entropy(task_of):
    task = task_of()
    # The same counts on the same held-out tokens; float32 in the loss.
    assert task.evaluate(Unigram(task)) == pytest.approx(task.unigram_entropy, rel=1e-5)


def test_evaluation_is_in_evaluation_mode_and_gives_the_mode_back(task_of):
    task = task_of()
    model = Uniform(task.vocab_size)
    for training in (True, False):
        model.train(training)
        task.evaluate(model)
        assert model.training is training
    assert not any(model.was_training)


def test_a_model_that_fails_in_evaluation_gets_its_mode_back(task_of):
    model = nn.Linear(1, 1)
    with pytest.raises(RuntimeError):
        task_of().evaluate(model)
    assert model.training


def test_evaluation_is_over_the_tokens_asked_for(task_of):
    def tokens_of(task):
        return sum(targets.numel() for _, targets in task._validation)

    assert tokens_of(task_of(evaluation_tokens=80)) == 80
    whole = task_of(evaluation_tokens=10**9)
    assert len(whole.corpus.validation) - 8 <= tokens_of(whole) <= len(whole.corpus.validation)


def test_the_loss_is_in_float32_for_a_model_in_bfloat16(task_of):
    task = task_of()

    class Half(Uniform):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens).bfloat16()

    assert task.loss(Half(task.vocab_size), task.train_batch(0)).dtype == torch.float32


def test_a_context_that_the_text_cannot_fill_is_refused(task_of):
    with pytest.raises(UserError, match="training text has"):
        task_of(context=10**6)
    with pytest.raises(UserError, match="validation text has"):
        task_of(context=5000)


def test_the_fingerprint_tells_texts_and_tokenizers_apart(task_of, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n".join(f"{i} times {i % 5} is {i * (i % 5)}" for i in range(800)))
    fingerprints = [
        task.fingerprint
        for task in (task_of(), task_of(data=str(other)), task_of(tokenizer="bpe:300"), task_of(seed=9))
    ]
    assert fingerprints[0] == fingerprints[3]
    assert len(set(fingerprints)) == 3


def test_a_text_that_changed_is_read_again(task_of, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be\n" * 100)
    before = task_of(data=str(text)).fingerprint
    text.write_text("to be or not to bee\n" * 100)
    assert task_of(data=str(text)).fingerprint != before


def test_the_tokenizer_comes_back_from_a_folder(task_of, tmp_path):
    task = task_of(tokenizer="bpe:300")
    task.reader.save(tmp_path)
    loaded = tasks.parse("language-modeling").reader(tmp_path).tokenizer
    assert loaded.fingerprint() == task.tokenizer.fingerprint()
    assert task.bytes_per_token > 1
    with pytest.raises(UserError, match="does not exist"):
        tasks.parse("language-modeling").reader(tmp_path / "nothing")


def test_tokens_are_kept_in_few_bytes(task_of):
    assert task_of().corpus.train.tokens.dtype == np.uint8
    assert task_of(tokenizer="bpe:300").corpus.train.tokens.dtype == np.uint16


def test_scores_are_bits_per_byte_and_perplexity_beside_an_n_gram_model(task_of):
    task = task_of()
    bits, perplexity = task.scores(Uniform(256), "test")
    assert bits.value == pytest.approx(8) and perplexity.value == pytest.approx(256, rel=1e-5)
    assert bits.baseline is not None and bits.baseline < 4 and bits.baseline_name == "Kneser-Ney 5-gram"
    assert math.log(perplexity.baseline) == pytest.approx(bits.baseline * math.log(2), rel=1e-6)
    assert task.scores(Uniform(256), "validation", 3, baselines=False)[0].baseline is None


def test_every_scored_token_has_half_a_context_before_it(task_of):
    stream = task_of().corpus.validation
    seen = []
    for inputs, targets, places in stream.overlapping(8, 5):
        kept = targets != -100
        assert (kept.sum(axis=1) == 4).all() and not kept[:, :4].any()
        assert (targets[kept] == stream.tokens[places]).all()
        assert (inputs[:, 5:] == targets[:, 4:-1]).all()
        seen.append(places)
    places = np.concatenate(seen)
    assert (np.diff(places) == 1).all() and places[0] == 5 and len(stream) - places[-1] <= 4
