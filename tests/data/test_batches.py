from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addnorm.data.tokens.batches import TokenStream, unigram_entropy
from addnorm.errors import UserError

STREAM = TokenStream(np.arange(1000), name="training")


def test_targets_are_the_inputs_one_token_later():
    inputs, targets = STREAM.batch(seed=0, step=0, batch_size=8, context=64)
    assert inputs.shape == targets.shape == (8, 64)
    assert inputs.dtype == targets.dtype == np.int64
    assert np.array_equal(targets, inputs + 1)
    assert np.array_equal(np.diff(inputs), np.ones((8, 63)))


def test_a_batch_depends_on_seed_and_step_only():
    other = TokenStream(np.arange(1000))
    other.batch(5, 5, 3, 10)
    for step in (7, 3, 7):
        for mine, theirs in zip(STREAM.batch(1, step, 8, 64), other.batch(1, step, 8, 64), strict=True):
            assert np.array_equal(mine, theirs)


def test_a_batch_is_the_same_in_every_release():
    """Fixed numbers: a run stored today must resume on the same batches later."""
    starts = STREAM.batch(seed=3, step=11, batch_size=4, context=8)[0][:, 0]
    assert starts.tolist() == [138, 507, 732, 556]


def test_seeds_and_steps_give_different_batches():
    batches = {STREAM.batch(seed, step, 8, 64)[0].tobytes() for seed in range(10) for step in range(10)}
    assert len(batches) == 100


def test_a_larger_batch_begins_with_the_smaller_one():
    small, large = STREAM.batch(0, 0, 4, 16)[0], STREAM.batch(0, 0, 8, 16)[0]
    assert np.array_equal(small, large[:4])


def test_every_place_is_drawn_and_about_equally_often():
    stream = TokenStream(np.arange(20))
    starts = np.concatenate([stream.batch(0, step, 100, 10)[0][:, 0] for step in range(100)])
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    # 10,000 draws over 10 places: standard deviation 30; five of them.
    assert np.abs(counts - 1000).max() < 150


def test_small_dtypes_come_out_as_int64():
    inputs, targets = TokenStream(np.zeros(100, dtype=np.uint8)).batch(0, 0, 2, 4)
    assert inputs.dtype == targets.dtype == np.int64


@given(
    length=st.integers(2, 300),
    context=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    cap=st.none() | st.integers(1, 99),
)
def test_evaluation_predicts_tokens_at_most_once_and_in_order(length, context, batch_size, cap):
    stream = TokenStream(np.arange(length))
    if length <= context:
        with pytest.raises(UserError):
            stream.sequential(context, batch_size, cap)
        return
    batches = list(stream.sequential(context, batch_size, cap))
    targets = np.concatenate([targets.ravel() for _, targets in batches])
    assert all(np.array_equal(targets, inputs + 1) for inputs, targets in batches)
    assert np.array_equal(targets, np.unique(targets))
    assert all(len(inputs) == batch_size for inputs, _ in batches[:-1]) and 1 <= len(batches[-1][0]) <= batch_size
    if cap is None:
        assert len(targets) > length - 1 - context
        assert np.array_equal(targets, np.arange(1, len(targets) + 1))
    else:
        assert len(targets) <= max(cap, context)


def test_a_cap_spreads_the_evaluation_over_the_whole_text():
    targets = np.concatenate([t.ravel() for _, t in STREAM.sequential(context=10, batch_size=4, max_tokens=100)])
    assert len(targets) == 100
    assert targets.min() == 1
    # Ten of 99 sequences: every gap is 8 or 9 sequences of 10 tokens, before the first and after the last too.
    assert 80 < np.diff(targets).max() <= 91
    assert 1000 - targets.max() <= 101


def test_a_text_shorter_than_the_context_says_how_many_tokens_it_has_and_needs():
    with pytest.raises(UserError, match="training text has 1000 tokens, context=1000 needs 1001 or more; use a longer"):
        STREAM.batch(0, 0, 1, 1000)
    with pytest.raises(UserError, match="1000 tokens, context=2000 needs 2001"):
        STREAM.sequential(2000, 1)
    inputs, _ = STREAM.batch(0, 0, 2, 999)
    assert inputs[:, 0].tolist() == [0, 0]


def test_unigram_entropy_of_the_training_text_itself_is_its_entropy():
    tokens = np.repeat([0, 1, 2], [50_000, 25_000, 25_000])
    entropy = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    # Add-one smoothing moves a share by less than 3 in 100,000.
    assert unigram_entropy(tokens, tokens, vocab_size=3) == pytest.approx(entropy, abs=1e-4)


def test_unigram_entropy_of_an_unseen_token_is_finite():
    assert unigram_entropy(np.zeros(98, dtype=int), np.array([1]), vocab_size=2) == pytest.approx(math.log(100))


def test_unigram_entropy_is_what_a_context_free_model_pays():
    generator = np.random.default_rng(0)
    train, held_out = generator.integers(0, 7, 500), generator.integers(0, 7, 300)
    share = (np.array([(train == token).sum() for token in range(7)]) + 1) / (500 + 7)
    expected = np.mean([-math.log(share[token]) for token in held_out])
    assert unigram_entropy(train, held_out, vocab_size=7) == pytest.approx(expected, rel=1e-12)
