"""What is read of a source at a time, and where reading may go on behind it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where reading stands.

    Args:
        part: number of the file, or of the data set's split.
        offset: bytes of the file, unpacked, that were read.
        line: lines, or rows, that were read.
    """

    part: int = 0
    offset: int = 0
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A document, or a block of a long one.

    Args:
        text: of it.
        split: where it belongs; None where its hash decides.
        before: where it began, if text of the same document stands there; else None.
        after: where reading goes on.
    """

    text: str
    split: str | None
    before: Place | None = None
    after: Place
