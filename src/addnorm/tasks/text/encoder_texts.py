"""Texts as an encoder reads them, encoded once, and cut into batches of near lengths by (seed, step)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from addnorm.data.tokens.pretrained_tokenizer import Encoded, shares
from addnorm.data.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

POOL_BATCHES = 16
"""Batches whose rows are shuffled among each other before they are sorted by length: more is less random."""
JITTER = 4
"""Tokens by which a row may stand out of order within its pool; without it the same rows would often meet."""
EVALUATION_TOKENS = 4096
"""Of a forward in evaluation, padding included."""

NO_TOKEN = -1
"""Segment of a place behind a row's end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """The tokens of a text, without special ones, and where each stands in it.

    Args:
        ids: token ids.
        offsets: a token's first character, and the one after its last.
    """

    ids: Int[np.ndarray, "tokens"]
    offsets: Int[np.ndarray, "tokens 2"]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> Pieces:
        """Some of the tokens; places still count in the whole text."""
        return Pieces(ids=self.ids[start:stop], offsets=self.offsets[start:stop])


@dataclass(frozen=True, kw_only=True)
class TextFrame:
    """One text or several in an encoder's input: [CLS] first [SEP] second [SEP].

    The special tokens are the tokenizer's own; for bytes and byte-level BPE, bytes that no text has.

    Args:
        tokenizer: any.
    """

    tokenizer: Tokenizer

    @property
    def pad(self) -> int:
        """What fills short rows; such places are masked, by the rows' lengths: this may be a word's id too."""
        return self.tokenizer.frame.pad

    def pieces(self, text: str) -> Pieces:
        """The tokens of a text."""
        ids, offsets = self.tokenizer.encode_places(text)
        return Pieces(ids=ids, offsets=offsets)

    def frame(self, *parts: Pieces) -> Encoded:
        """The parts with the special tokens before, between and after them; segment 0 for the first, 1 for the rest."""
        marks, none = self.tokenizer.frame, np.zeros((1, 2), dtype=np.int64)
        ids, segments, offsets, special = [[marks.cls]], [[0]], [none], [[True]]
        for number, part in enumerate(parts):
            ids += [part.ids, [marks.sep]]
            segments.append([min(number, 1)] * (len(part) + 1))
            offsets += [part.offsets, none]
            special.append([False] * len(part) + [True])
        return Encoded(
            ids=np.concatenate(ids).astype(np.int64),
            segments=np.concatenate(segments).astype(np.int64),
            offsets=np.concatenate(offsets),
            special=np.concatenate(special),
        )

    def single(self, text: str, limit: int) -> Encoded:
        """One text in `limit` tokens at most, special ones included; its end is cut off."""
        return self.frame(self.pieces(text).part(0, max(0, limit - 2)))

    def pair(self, first: str, second: str, limit: int) -> Encoded:
        """Two texts in `limit` tokens at most; the longer one is cut until both fit."""
        one, other = self.pieces(first), self.pieces(second)
        kept = shares(len(one), len(other), max(0, limit - 3))
        return self.frame(one.part(0, kept[0]), other.part(0, kept[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRows:
    """Encoded inputs of one split.

    Args:
        ids: of each row.
        segments: likewise.
        pad: what fills shorter rows of a batch.
    """

    ids: tuple[np.ndarray, ...]
    segments: tuple[np.ndarray, ...]
    pad: int

    @classmethod
    def of(cls, encoded: Iterable[Encoded], pad: int) -> TokenRows:
        """Rows in a quarter of the bytes and less; offsets are left behind."""
        kept = [(row.ids.astype(np.int32), row.segments.astype(np.int8)) for row in encoded]
        return cls(ids=tuple(ids for ids, _ in kept), segments=tuple(segments for _, segments in kept), pad=pad)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> Int[np.ndarray, "rows"]:
        """Tokens of each row."""
        return np.fromiter(map(len, self.ids), dtype=np.int64, count=len(self))

    def batch(self, numbers: Iterable[int]) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
        """Ids and segments of these rows, filled up on the right to the longest of them, with segment `NO_TOKEN`."""
        chosen = list(numbers)
        longest = max(len(self.ids[number]) for number in chosen)
        ids = np.full((len(chosen), longest), self.pad, dtype=np.int64)
        segments = np.full_like(ids, NO_TOKEN)
        for row, number in enumerate(chosen):
            ids[row, : len(self.ids[number])] = self.ids[number]
            segments[row, : len(self.ids[number])] = self.segments[number]
        return torch.from_numpy(ids), torch.from_numpy(segments)

    def by_length(self, numbers: np.ndarray, tokens: int = EVALUATION_TOKENS) -> Iterator[np.ndarray]:
        """These rows, the longest first, in batches of so many tokens at most."""
        return (numbers[places] for places in by_length(self.lengths[numbers], tokens))


def real(segments: Int[Tensor, "*batch tokens"]) -> tuple[Bool[Tensor, "*batch tokens"], Int[Tensor, "*batch tokens"]]:
    """Which places of a batch have a token, and segments that a model can look up."""
    return segments != NO_TOKEN, segments.clamp(min=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LengthBatches:
    """Training batches of rows that are nearly equally long; each row at most once an epoch.

    An epoch shuffles the rows, sorts pools of `POOL_BATCHES` batches by length with a jitter, cuts them, and shuffles
    the batches; rows that fill no batch are left out of that epoch. What a step gets is a function of (seed, step).

    Args:
        lengths: tokens of each row.
        seed: of the order.
        batch_size: rows of a batch; fewer if there are fewer rows.
    """

    lengths: Int[np.ndarray, "rows"]
    seed: int
    batch_size: int

    def __len__(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self.lengths) // self.batch_size)

    def numbers(self, step: int) -> Int[np.ndarray, "batch"]:
        """The rows of a step."""
        epoch, place = divmod(step, len(self))
        if self._epoch[0] != epoch:
            self._epoch[:] = [epoch, self._batches(epoch)]
        return self._epoch[1][place]

    @cached_property
    def _epoch(self) -> list:
        return [-1, None]

    def _batches(self, epoch: int) -> Int[np.ndarray, "batches batch"]:
        """By raw draws, which no release of numpy changes."""
        rows, size = len(self.lengths), min(self.batch_size, len(self.lengths))
        draws = np.random.Philox(key=np.array([self.seed, epoch], dtype=np.uint64)).random_raw(2 * rows + len(self))
        order = np.argsort(draws[:rows], kind="stable")
        moved = self.lengths[order] + JITTER * (draws[rows : 2 * rows] / 2.0**64)
        pools = np.arange(rows) // (POOL_BATCHES * size)
        within = order[np.lexsort((moved, pools))]
        first = int(draws[-1] % np.uint64(rows - len(self) * size + 1))  # the rows left out are not always the longest
        batches = within[first : first + len(self) * size].reshape(len(self), size)
        return batches[np.argsort(draws[2 * rows : 2 * rows + len(self)], kind="stable")]


def by_length(lengths: Int[np.ndarray, "rows"], tokens: int = EVALUATION_TOKENS) -> Iterator[np.ndarray]:
    """The places of all rows, the longest first, in batches of so many tokens at most, padding included.

    >>> [batch.tolist() for batch in by_length(np.array([3, 9, 4]), tokens=8)]
    [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        size = max(1, tokens // int(lengths[order[0]]))
        yield order[:size]
        order = order[size:]
