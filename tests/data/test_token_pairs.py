"""Pairs of tokens in batches of near lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addnorm.data.tokens.token_pairs import BucketedBatches, TokenPairs, lengths

PAD = 255


def pairs(count: int, seed: int = 0, longest: int = 40) -> TokenPairs:
    """Targets about as long as their sources, as in translation; the first token of each is the pair's number."""
    generator = np.random.default_rng(seed)
    size = generator.integers(1, longest - 4, count)

    def side() -> list[np.ndarray]:
        sizes = zip(size, generator.integers(0, 5, count), strict=True)
        return [np.full(s + m, number % 200, dtype=np.uint8) for number, (s, m) in enumerate(sizes)]

    return TokenPairs(sources=side(), targets=side(), pad=PAD)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 600), tokens=st.integers(40, 400), seed=st.integers(0, 99), epoch=st.integers(0, 3))
def test_every_pair_comes_once_an_epoch_and_no_batch_is_too_large(count, tokens, seed, epoch):
    batches = BucketedBatches(pairs=pairs(count, seed), seed=seed, tokens=tokens)
    steps = range(epoch * len(batches), (epoch + 1) * len(batches))
    assert sorted(np.concatenate([batches.numbers(step) for step in steps])) == list(range(count))
    assert all(side.size <= tokens for step in steps for side in batches.batch(step))


def test_batches_are_a_function_of_seed_and_step():
    def numbers(seed: int, step: int) -> list[int]:
        return BucketedBatches(pairs=pairs(500), seed=seed, tokens=200).numbers(step).tolist()

    one = BucketedBatches(pairs=pairs(500), seed=1, tokens=200)
    for step in (0, 7, 3 * len(one) + 2, 5):  # what was drawn before has no part in it
        assert one.numbers(step).tolist() == numbers(1, step)
    assert numbers(1, 0) != numbers(2, 0)
    assert numbers(1, 0) != numbers(1, len(one))


def test_pairs_meet_other_pairs_in_the_next_epoch():
    batches = BucketedBatches(pairs=pairs(5000), seed=0, tokens=400)

    def together(epoch: int) -> set[frozenset[int]]:
        return {frozenset(batches.numbers(epoch * len(batches) + i).tolist()) for i in range(len(batches))}

    # The last pool may be of one batch; nothing else may come again.
    assert len(together(0) & together(1)) <= 1


def test_little_of_a_batch_is_padding():
    batches = BucketedBatches(pairs=pairs(5000), seed=0, tokens=400)
    for side in (0, 1):
        rows = [batches.batch(step)[side] for step in range(len(batches))]
        waste = sum((row == PAD).sum() for row in rows) / sum(row.size for row in rows)
        assert waste < 0.15  # in the order in which they come it is 0.4


def test_rows_are_filled_up_on_the_right():
    three = TokenPairs(sources=[np.array([1]), np.array([2, 3])], targets=[np.array([4, 5, 6]), np.array([7])], pad=9)
    source, target = three.rows(np.array([1, 0]))
    assert source.tolist() == [[2, 3], [1, 9]] and target.tolist() == [[7, 9, 9], [4, 5, 6]]
    assert source.dtype == target.dtype == np.int64


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 200), tokens=st.integers(1, 300))
def test_evaluation_batches_hold_every_pair_once_and_a_long_one_alone(count, tokens):
    some = pairs(count)
    found = list(some.by_length(tokens))
    assert sorted(np.concatenate(found)) == list(range(count))
    longest = np.maximum(lengths(some.sources), lengths(some.targets))
    assert all(len(each) == 1 or len(each) * longest[each].max() <= tokens for each in found)


def test_what_is_longer_is_left_out():
    kept = pairs(300).within(20)
    assert 0 < len(kept) < 300
    assert max(lengths(kept.sources).max(), lengths(kept.targets).max()) == 20


@pytest.mark.parametrize("tokens", [1, 500, 10**9])
def test_a_part_is_spread_over_the_split(tokens):
    some = pairs(200)
    part = some.spread(tokens)
    assert 1 <= len(part) <= 200
    numbers = [int(target[0]) for target in part.targets]
    assert numbers == sorted(numbers)
    assert len(part) == 200 or lengths(part.targets).sum() == pytest.approx(tokens, rel=0.3, abs=40)
    assert tokens != 500 or numbers[-1] > 150
