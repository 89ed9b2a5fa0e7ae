from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addnorm.data.tokens.epochs import Permutation, WindowStream
from addnorm.errors import UserError


class InMemory:
    """Tokens as a store gives them."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def windows(self, starts, length):
        return starts[:, None] + np.arange(length)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**40))
def test_every_number_comes_exactly_once(size, seed, epoch):
    order = Permutation(size, seed=seed, epoch=epoch)(np.arange(size))
    assert np.array_equal(np.sort(order), np.arange(size))


def test_a_place_does_not_depend_on_what_it_is_asked_with():
    order = Permutation(1000, seed=3, epoch=1)
    whole = order(np.arange(1000))
    assert [int(order(np.array([place]))[0]) for place in (0, 17, 999)] == whole[[0, 17, 999]].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 16, 100])
def test_over_the_seeds_every_number_is_as_likely_at_every_place(size):
    seeds = 2000
    counts = np.zeros((size, size))
    for seed in range(seeds):
        counts[np.arange(size), Permutation(size, seed=seed, epoch=0)(np.arange(size))] += 1
    expected = seeds / size
    # A random permutation's statistic has mean (size - 1)^2 and variance near 2 (size - 1)^2: six deviations.
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert abs(statistic - freedom) < 6 * np.sqrt(2 * freedom)


def test_neighbours_are_torn_apart():
    order = Permutation(100_000, seed=0, epoch=0)(np.arange(100_000))
    # 100,000 pairs with a correlation of deviation 0.0032: five of them.
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.016
    assert np.mean(np.abs(np.diff(order)) == 1) < 1e-3


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_every_window_is_seen_exactly_once_an_epoch(batch_size):
    stream = WindowStream(InMemory(4 * 23 + 3))  # 23 windows of 4, and 2 tokens left over
    steps = -(-23 * 3 // batch_size)
    seen = np.concatenate([stream.starts(5, step, batch_size, 4) for step in range(steps)])
    for epoch in range(3):
        assert np.sort(seen[23 * epoch : 23 * (epoch + 1)]).tolist() == [4 * i for i in range(23)]
    assert not np.array_equal(seen[:23], seen[23:46])


def test_a_batch_is_a_function_of_seed_and_step():
    one, other = WindowStream(InMemory(1000)), WindowStream(InMemory(1000))
    other.batch(1, 0, 5, 8)  # what was drawn before has no part in it
    for step in (0, 30, 10**12):
        inputs, targets = one.batch(1, step, 5, 8)
        assert np.array_equal(inputs, other.batch(1, step, 5, 8)[0])
        assert np.array_equal(inputs[:, 1:], targets[:, :-1])
        assert not np.array_equal(inputs, one.batch(2, step, 5, 8)[0])


def test_a_split_that_fills_no_window_is_refused():
    with pytest.raises(UserError, match="has 8 tokens, context=8 needs 9"):
        WindowStream(InMemory(8)).batch(0, 0, 1, 8)
