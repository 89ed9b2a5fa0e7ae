"""The Kneser-Ney model against its definition, counted by hand with dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from addnorm.data.tokens.ngram import KneserNey

RANDOM = np.random.default_rng(0)
TEXT = RANDOM.choice(5, size=400, p=[0.4, 0.3, 0.2, 0.07, 0.03])


def by_hand(text: list[int], vocabulary: int, order: int, history: list[int], word: int) -> float:
    """The recursion of the class's docstring, with dictionaries."""
    if order == 0:
        return 1 / vocabulary
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    if order == by_hand.longest:  # pyrefly: ignore
        for i in range(len(text) - order + 1):
            counts[tuple(text[i : i + order - 1])][text[i + order - 1]] += 1
    else:
        longer = {tuple(text[i : i + order + 1]) for i in range(len(text) - order)}
        for gram in longer:
            counts[gram[1:-1]][gram[-1]] += 1
        first = tuple(text[:order])
        counts[first[:-1]][first[-1]] = max(1, counts[first[:-1]][first[-1]])
    sizes = Counter(count for words in counts.values() for count in words.values())
    discount = sizes[1] / (sizes[1] + 2 * sizes[2]) if sizes[1] else 0.5
    shorter = by_hand(text, vocabulary, order - 1, history[1:], word)
    words = counts.get(tuple(history))
    if not words:
        return shorter
    total = sum(words.values())
    return max(words[word] - discount, 0) / total + discount * len(words) / total * shorter


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_is_the_recursion(order):
    by_hand.longest = order  # pyrefly: ignore
    model = KneserNey(TEXT, vocab_size=6, order=order)
    held_out = np.array([0, 1, 4, 0, 5, 2, 3, 1, 0, 0])
    found = model.log_probabilities(held_out)
    for i in range(order - 1, len(held_out)):
        history = held_out[i - order + 1 : i].tolist()
        wanted = by_hand(TEXT.tolist(), 6, order, history, int(held_out[i]))
        assert found[i] == pytest.approx(math.log(wanted), rel=1e-12)


def test_probabilities_add_up_to_one():
    model = KneserNey(TEXT, vocab_size=6, order=4)
    for history in ([0, 1, 0], [5, 5, 5], [3, 4, 1], TEXT[-3:].tolist()):
        last = [model.log_probabilities(np.array([*history, word]))[-1] for word in range(6)]
        assert np.exp(last).sum() == pytest.approx(1, rel=1e-12)


def test_it_beats_the_frequencies_on_a_text_with_order():
    text = np.tile(np.array([0, 1, 2, 1]), 200)
    assert KneserNey(text, 3, 3).log_probabilities(text[:40])[3:].mean() > -0.05
    assert KneserNey(text, 3, 1).log_probabilities(text[:40]).mean() == pytest.approx(-1.04, abs=0.05)


def test_a_large_vocabulary_does_not_overflow():
    tokens = RANDOM.integers(0, 60_000, size=3_000)
    assert np.isfinite(KneserNey(tokens, 60_000, 5).log_probabilities(tokens[::-1].copy())).all()
