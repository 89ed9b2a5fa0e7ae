"""Which held-out documents of a source stand in its training documents too, without holding their texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from addnorm.data.sources.pieces import Piece
from addnorm.data.texts.repeats import comparable, notes

_HELD_OUT = ("validation", "test")


class HeldOutDocuments:
    """Held-out documents by 8 bytes of the SHA-256 of their texts; case and white space do not count.

    Args:
        pieces: those that their source holds out; others are passed over. Those held out by their hash are in training
            only where the source holds them out by name as well.
        state: of an earlier one, whose build is gone on with.
    """

    def __init__(self, pieces: Iterable[Piece], state: dict[str, Any] | None = None) -> None:
        state = state or {"met": [], "left_out": 0}
        self._held: dict[str, Counter[int]] = {split: Counter() for split in _HELD_OUT}
        self._met, self.left_out = set[int](state["met"]), int(state["left_out"])
        for piece in pieces:
            if piece.split in self._held and (name := _name(piece.text)) is not None:
                self._held[piece.split][name] += 1

    def has(self, text: str) -> bool:
        """Whether a document is held out."""
        return self._held_name(text) is not None

    def meet(self, text: str, *, drop: bool) -> bool:
        """Take in a training document; whether it is to be left out of training."""
        name = self._held_name(text)
        if name is None:
            return False
        self._met.add(name)
        self.left_out += drop
        return drop

    def state(self) -> dict[str, Any]:
        """What a build that goes on needs."""
        return {"met": sorted(self._met), "left_out": self.left_out}

    def counts(self) -> dict[str, int]:
        """How many documents of each held-out split stand in training."""
        return {split: sum(names[name] for name in self._met) for split, names in self._held.items()}

    def notes(self, origin: str, *, drop: bool) -> tuple[str, ...]:
        """What there is to say; where the repeats stay in training and are many, a warning too."""
        if drop:
            return (f"left {self.left_out:,} documents out of training that are held out too",) * bool(self.left_out)
        totals = {split: names.total() for split, names in self._held.items()}
        shares = {split: count / totals[split] for split, count in self.counts().items() if count}
        return notes(origin, "documents", shares)

    def _held_name(self, text: str) -> int | None:
        if not any(self._held.values()):  # the usual source, which needs no hashes
            return None
        name = _name(text)
        return name if any(name in names for names in self._held.values()) else None


def _name(text: str) -> int | None:
    words = comparable(text)
    if not words:
        return None
    return int.from_bytes(hashlib.sha256(words.encode("utf-8", errors="replace")).digest()[:8], "big")
