"""Pairs of token sequences, cut into batches of near lengths by (seed, step)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

POOL_BATCHES = 16
"""Batches whose pairs are shuffled among each other: more is more random, and more padding."""
JITTER = 4
"""Tokens by which a source may stand out of order within its pool; without it the same pairs would always meet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenPairs:
    """One split's pairs of token ids.

    Args:
        sources: one array a pair.
        targets: likewise, in the same order.
        pad: the id that fills shorter rows up.
    """

    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    pad: int

    def __len__(self) -> int:
        return len(self.sources)

    def rows(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sources and targets of these pairs, int64, each filled up on the right to its longest."""
        chosen = self._chosen(numbers)
        return _filled(chosen.sources, self.pad), _filled(chosen.targets, self.pad)

    def within(self, longest: int) -> TokenPairs:
        """The pairs of which neither side has more tokens."""
        kept = np.flatnonzero(np.maximum(lengths(self.sources), lengths(self.targets)) <= longest)
        return self._chosen(kept)

    def spread(self, tokens: int) -> TokenPairs:
        """As many pairs, evenly over the split, as have about so many target tokens; at least one."""
        mean = max(lengths(self.targets).mean(), 1)
        kept = min(len(self), max(1, int(tokens / mean)))
        return self._chosen(np.arange(kept) * len(self) // kept)

    def by_length(self, tokens: int) -> Iterator[np.ndarray]:
        """The numbers of all pairs, the longest sources first, in batches of at most so many tokens a side."""
        longest = np.maximum(lengths(self.sources), lengths(self.targets))
        order = np.lexsort((longest, lengths(self.sources)))[::-1]
        while len(order):
            size = 1
            while size < len(order) and (size + 1) * longest[order[: size + 1]].max() <= tokens:
                size += 1
            yield order[:size]
            order = order[size:]

    def _chosen(self, numbers: np.ndarray) -> TokenPairs:
        kept = numbers.tolist()
        sources, targets = ([side[number] for number in kept] for side in (self.sources, self.targets))
        return TokenPairs(sources=sources, targets=targets, pad=self.pad)


@dataclass(frozen=True, kw_only=True, eq=False)
class BucketedBatches:
    """Training batches of pairs that are nearly equally long; each pair once an epoch.

    Pairs stand in the order of their target lengths, in pools of `POOL_BATCHES` batches. Each epoch orders a pool by
    source length with a jitter, cuts it, and shuffles the batches of all pools. What a step gets is a function of
    (seed, step): nothing has to be saved to resume, and the number of batches is the same in every epoch.

    Args:
        pairs: the training split; no side longer than `tokens`.
        seed: of the order.
        tokens: of a batch, each side, padding of the longer side included; at most.
    """

    pairs: TokenPairs
    seed: int
    tokens: int
    _pool: np.ndarray = field(init=False)
    _cuts: list[tuple[int, int]] = field(init=False)
    _epoch: dict[int, tuple[np.ndarray, np.ndarray]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        longest = np.maximum(lengths(self.pairs.sources), lengths(self.pairs.targets))
        order = np.argsort(lengths(self.pairs.targets), kind="stable")
        pool, cuts, start = np.zeros(len(order), dtype=np.int64), [], 0
        while start < len(order):
            end, size = self._pool_end(longest[order], start)
            pool[order[start:end]] = start
            edges = np.linspace(start, end, -(-(end - start) // size) + 1).round().astype(int).tolist()
            cuts += itertools.pairwise(edges)
            start = end
        object.__setattr__(self, "_pool", pool)
        object.__setattr__(self, "_cuts", cuts)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts)

    def numbers(self, step: int) -> np.ndarray:
        """The pairs of a step."""
        epoch, place = divmod(step, len(self))
        if epoch not in self._epoch:
            self._epoch.clear()
            self._epoch[epoch] = self._order(epoch)
        order, batches = self._epoch[epoch]
        first, last = self._cuts[batches[place]]
        return order[first:last]

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Sources and targets of a step."""
        return self.pairs.rows(self.numbers(step))

    def _pool_end(self, longest: np.ndarray, start: int) -> tuple[int, int]:
        """Where the pool that starts here ends, and the pairs in each of its batches."""
        end, most = start, 0
        while end < len(longest):
            most = max(most, longest[end])
            if end - start >= POOL_BATCHES * (self.tokens // most):
                break
            end += 1
        return end, max(1, self.tokens // int(longest[start:end].max()))

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The pairs, pool by pool, and the order of the batches; by raw draws, which no release of numpy changes."""
        draws = np.random.Philox(key=np.array([self.seed, epoch], dtype=np.uint64)).random_raw(
            len(self.pairs) + len(self)
        )
        moved = lengths(self.pairs.sources) + JITTER * (draws[: len(self.pairs)] / 2.0**64)
        return np.lexsort((moved, self._pool)), np.argsort(draws[len(self.pairs) :], kind="stable")


def lengths(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """How many tokens each sequence has."""
    return np.fromiter((len(sequence) for sequence in sequences), dtype=np.int64, count=len(sequences))


def _filled(sequences: Sequence[np.ndarray], pad: int) -> np.ndarray:
    rows = np.full((len(sequences), max(map(len, sequences))), pad, dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows
