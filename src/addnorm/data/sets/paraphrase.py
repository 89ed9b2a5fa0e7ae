"""Pairs of verses: the same verse in two English translations, or two that only share words."""

from __future__ import annotations

import functools
import re
from collections import Counter
from math import ceil, log

import numpy as np

from addnorm.data.sets import bible
from addnorm.data.sets.bible import Verse
from addnorm.data.texts.records import SentencePair, Splits

PARAPHRASE, DIFFERENT = "paraphrase", "different"
POOL = 1600
"""Verses among which a negative is searched: each held-out split is one pool, so that negatives are as hard
everywhere.
"""
COMMON = 0.1
"""A word in more of a pool's verses says nothing about which verse it is."""
NEAR_ENOUGH = 0.5
"""A verse is used if its negative is at least half as near to it as its paraphrase; the others are told apart at a
glance.
"""
TOO_NEAR = 0.5
"""A verse this near to the paraphrase itself (a refrain, a passage told twice) is no negative."""
CANDIDATES = 8
"""Negatives looked at for a verse, the nearest first."""
_WORD = re.compile(r"[a-z]+")


@functools.cache
def paraphrase_pairs() -> Splits[SentencePair]:
    """World English Bible against King James Version, split by book as `bible.verses` is.

    A verse of the World English Bible comes twice: with its own King James verse (paraphrase), and with the other
    King James verse of its pool that is nearest to it (different), so that the first sentence alone says nothing.
    """
    splits = bible.verses()
    return Splits(
        origin="paraphrase",
        train=_pairs(splits.train),
        validation=_pairs(splits.validation),
        test=_pairs(splits.test),
    )


def _pairs(verses: tuple[Verse, ...]) -> tuple[SentencePair, ...]:
    there = [verse for verse in verses if verse.web and verse.kjv]
    pools = np.array_split(np.arange(len(there)), ceil(len(there) / POOL))
    return tuple(pair for pool in pools for pair in _pool_pairs([there[i] for i in pool]))


def _pool_pairs(pool: list[Verse]) -> list[SentencePair]:
    negatives = hard_negatives([verse.web for verse in pool], [verse.kjv for verse in pool])
    pairs = []
    for verse, other in zip(pool, negatives, strict=True):
        if other is not None:
            pairs.append(SentencePair(first=verse.web, second=verse.kjv, label=PARAPHRASE))
            pairs.append(SentencePair(first=verse.web, second=pool[other].kjv, label=DIFFERENT))
    return pairs


def hard_negatives(first: list[str], second: list[str]) -> list[int | None]:
    """For each first text, the nearest second text that means something else; None where none is near enough."""
    near = TextNearness(second)
    return [_hard_negative(near, index, near.scores(text)) for index, text in enumerate(first)]


def _hard_negative(near: TextNearness, index: int, scores: np.ndarray) -> int | None:
    paraphrase = scores[index]
    scores[index] = -1
    for _ in range(CANDIDATES):
        other = int(scores.argmax())
        if scores[other] <= 0 or scores[other] < NEAR_ENOUGH * paraphrase:
            return None
        if near.cosine(index, other) <= TOO_NEAR:
            return other
        scores[other] = -1
    return None


class TextNearness:
    """How near texts are: the cosine of their sets of words, each weighted with ln(N / n_word).

    Args:
        texts: N texts; a word stands in n_word of them.
    """

    def __init__(self, texts: list[str]) -> None:
        self.words = [_words(text) for text in texts]
        counts = Counter(word for text in self.words for word in text)
        kept = {word: times for word, times in counts.items() if times <= max(2, COMMON * len(texts))}
        self.weights = {word: log(len(texts) / times) for word, times in kept.items()}
        self.norms = np.array([self._norm(text) for text in self.words])
        holders: dict[str, list[int]] = {word: [] for word in kept}
        for index, text in enumerate(self.words):
            for word in text & kept.keys():
                holders[word].append(index)
        self.holders = {word: np.array(indices) for word, indices in holders.items()}

    def scores(self, text: str) -> np.ndarray:
        """The cosine of a new text with each text, times the new text's norm."""
        common = np.zeros(len(self.words))
        for word in sorted(_words(text) & self.weights.keys()):  # a set's order differs between processes
            common[self.holders[word]] += self.weights[word] ** 2
        return common / self.norms

    def cosine(self, one: int, other: int) -> float:
        """The cosine of two of the texts."""
        common = self.words[one] & self.words[other] & self.weights.keys()
        return sum(self.weights[word] ** 2 for word in sorted(common)) / float(self.norms[one] * self.norms[other])

    def _norm(self, text: set[str]) -> float:
        return max(1e-9, sum(self.weights[word] ** 2 for word in sorted(text & self.weights.keys())) ** 0.5)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
