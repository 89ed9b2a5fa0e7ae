"""Questions with their contexts as rows of tokens: a long context in several windows, each answer where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from addnorm.data.texts.records import Question
from addnorm.data.tokens.pretrained_tokenizer import Encoded, PretrainedTokenizer
from addnorm.errors import UserError
from addnorm.tasks.text.encoder_texts import Pieces, TextFrame, TokenRows

if TYPE_CHECKING:
    from jaxtyping import Int

MIN_CONTEXT = 16
"""Tokens of a context that a window must have room for at least."""
_BLANK = re.compile(r"_{3,}")


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a question and its context become rows of tokens.

    Args:
        frame: of the tokenizer.
        limit: tokens of a row, special ones included.
        stride: tokens of the context from the start of a window to that of the next.
    """

    frame: TextFrame
    limit: int
    stride: int

    def rows(self, question: str, context: str) -> Iterator[Encoded]:
        """The windows: [CLS] question [SEP] part of the context [SEP]; the question's end is cut if it is too long.

        Raises:
            UserError: a row has no room for a question and a context.
        """
        if self.limit < 2 * MIN_CONTEXT:
            raise UserError(f"context={self.limit} is too short for a question and its context; use 64 or more.")
        asked, pieces = self._question(question), self.frame.pieces(context)
        room = self.limit - 3 - len(asked)
        stride = min(self.stride, room)  # a longer one would leave tokens out between two windows
        for start in range(0, max(len(pieces) - room, 0) + stride, stride):
            yield self.frame.frame(asked, pieces.part(start, start + room))
            if start + room >= len(pieces):
                return

    def _question(self, text: str) -> Pieces:
        mask = _mask_id(self.frame.tokenizer)
        pieces = self.frame.pieces(text) if mask is None else self._with_blanks(text, mask)
        return pieces.part(0, min(len(pieces), self.limit // 2, self.limit - 3 - MIN_CONTEXT))

    def _with_blanks(self, text: str, mask: int) -> Pieces:
        """The tokens of a question, the mask token in place of each blank; places count between blanks."""
        one = Pieces(ids=np.array([mask]), offsets=np.zeros((1, 2), dtype=np.int64))
        parts = [piece for part in _BLANK.split(text) for piece in (one, self.frame.pieces(part))][1:]
        ids, offsets = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "offsets"))
        return Pieces(ids=ids, offsets=offsets)


@dataclass(frozen=True, kw_only=True, eq=False)
class ContextWindows:
    """The windows of a split's questions.

    Args:
        rows: their tokens.
        offsets: of each row, where each token stands in the context.
        question: of each row, the number of its question.
        starts: of each row, the tokens where an answer that the window holds whole starts; [0] where there is none.
        ends: likewise.
        lost: questions with answers of which no window holds one.
    """

    rows: TokenRows
    offsets: tuple[np.ndarray, ...]
    question: Int[np.ndarray, "rows"]
    starts: tuple[tuple[int, ...], ...]
    ends: tuple[tuple[int, ...], ...]
    lost: int

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, segments, and which tokens are a start or an end, `[batch, tokens, 2]`."""
        ids, segments = self.rows.batch(numbers)
        gold = torch.zeros(*ids.shape, 2, dtype=torch.int8)
        for row, number in enumerate(numbers):
            gold[row, list(self.starts[number]), 0] = 1
            gold[row, list(self.ends[number]), 1] = 1
        return ids, segments, gold


@lru_cache(maxsize=6)  # three splits, for the runs of a comparison that follow each other in one process
def windows(framing: Framing, questions: tuple[Question, ...]) -> ContextWindows:
    """The windows of questions, in their order.

    Raises:
        UserError: a row has no room for a question and a context.
    """
    encoded, numbers, spans, lost = [], [], [], 0
    for number, question in enumerate(questions):
        rows = list(framing.rows(question.question, question.context))
        found = [_spans(row, question, framing.frame) for row in rows]
        lost += bool(question.answers) and not any(found)
        encoded += rows
        numbers += [number] * len(rows)
        spans += found
    return ContextWindows(
        rows=TokenRows.of(encoded, framing.frame.pad),
        offsets=tuple(row.offsets.astype(np.int32) for row in encoded),
        question=np.array(numbers, dtype=np.int64),
        starts=tuple(tuple(sorted({start for start, _ in found})) or (0,) for found in spans),
        ends=tuple(tuple(sorted({end for _, end in found})) or (0,) for found in spans),
        lost=lost,
    )


def answerable(ids: Tensor, segments: Tensor, frame: TextFrame) -> Tensor:
    """Which tokens may be in an answer: those of the context, and [CLS], which says that there is none."""
    allowed = (segments == 1) & (ids != frame.tokenizer.frame.sep)
    allowed[:, 0] = True
    return allowed


def _spans(row: Encoded, question: Question, frame: TextFrame) -> list[tuple[int, int]]:
    """First and last token of each answer that stands whole in a row."""
    inside = np.flatnonzero((row.segments == 1) & ~row.special & (row.ids != frame.tokenizer.frame.sep))
    if not len(inside):
        return []
    first, last = row.offsets[inside, 0], row.offsets[inside, 1]
    found = []
    for answer in question.answers:
        start = answer.start + len(answer.text) - len(answer.text.lstrip())
        stop = answer.start + len(answer.text.rstrip())
        covered = inside[(last > start) & (first < stop)]
        # A window's first token may begin in the middle of the answer; then the window before has the whole.
        if len(covered) and first[0] <= start and last[-1] >= stop:
            found.append((int(covered[0]), int(covered[-1])))
    return found


def _mask_id(tokenizer: object) -> int | None:
    """The token that the tokenizer's encoder was trained to see in place of a word; None without one."""
    return tokenizer.special_ids.get("mask") if isinstance(tokenizer, PretrainedTokenizer) else None
