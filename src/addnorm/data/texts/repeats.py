"""How much of what is held out stands in the training data too, and training data without it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from addnorm.data.texts.text import Document, TextSplits
from addnorm.errors import UserError

Item = TypeVar("Item")
TOLERATED = 0.01
"""Share of a held-out split that may stand in training before a warning says so."""
SHORTEST = 32
"""Characters of a passage; shorter lines, a speaker's name or a greeting, are in every text."""
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s)|[。！？]|\n|\Z)\s*")


class RepeatWarning(UserWarning):
    """Much of what is held out stands in training."""


def of_text(splits: TextSplits, *, drop: bool = False) -> TextSplits:
    """A text with notes on how much of its held-out sentences and lines, of `SHORTEST` characters, train has too.

    Args:
        splits: the text.
        drop: leave those out of the training documents.

    Raises:
        UserError: nothing would be left.
    """
    held = {split: list(_passages(getattr(splits, split))) for split in ("validation", "test")}
    seen = {hash(key) for _, key in _passages(splits.train)}
    shares = {
        split: _ratio(sum(len(text) for text, key in found if hash(key) in seen), sum(len(text) for text, _ in found))
        for split, found in held.items()
    }
    if not drop or not any(shares.values()):
        return replace(splits, notes=(*splits.notes, *notes(splits.origin, "text", shares)))
    taken = {key for found in held.values() for _, key in found}
    train = tuple(Document(name=one.name, text=_without(one.text, taken)) for one in splits.train)
    train = tuple(document for document in train if document.text.strip())
    if not train:
        raise UserError(f"all training text of {splits.origin} is held out too; use other texts for the splits.")
    left = sum(len(one.text) for one in splits.train) - sum(len(one.text) for one in train)
    note = f"left {left:,} characters out of training that are held out too"
    return replace(splits, train=train, notes=(*splits.notes, note))


def of_records(
    origin: str, splits: Mapping[str, Sequence[Item]], key: Callable[[Item], Hashable], *, drop: bool = False
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """The training records, and notes on how many of those held out stand among them.

    Args:
        origin: as the user named the source.
        splits: the records of train, validation and test.
        key: equal for records that ask the same.
        drop: leave out of training what is held out too.

    Raises:
        UserError: nothing would be left.
    """
    train = tuple(splits["train"])
    held = {split: [key(record) for record in splits[split]] for split in ("validation", "test")}
    seen = {key(record) for record in train}
    shares = {split: _ratio(sum(one in seen for one in keys), len(keys)) for split, keys in held.items()}
    if not drop or not any(shares.values()):
        return train, notes(origin, "records", shares)
    taken = {one for keys in held.values() for one in keys}
    kept = tuple(record for record in train if key(record) not in taken)
    if not kept:
        raise UserError(f"all training records of {origin} are held out too; use other records for the splits.")
    return kept, (f"left {len(train) - len(kept):,} records out of training that are held out too",)


def notes(origin: str, what: str, shares: Mapping[str, float]) -> tuple[str, ...]:
    """What there is to say of the share of each held-out split that stands in training too; a warning where it is much.

    Args:
        origin: as the user named the source.
        what: the splits consist of.
        shares: of each split.
    """
    said = [f"{share:.1%} of the {split} {what}" for split, share in shares.items() if share]
    if not said:
        return ()
    note = f"{' and '.join(said)} of {origin} stands in training too"
    if max(shares.values()) > TOLERATED:
        text = f"{note}: scores are better than on new data; leave it out of training with --drop-repeats."
        warnings.warn(text, RepeatWarning, stacklevel=4)
    return (note,)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _passages(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    """Sentences and lines, and each as it is compared: case and white space do not count."""
    for document in documents:
        for found in _SENTENCE.finditer(document.text):
            if len(key := comparable(found.group())) >= SHORTEST:
                yield found.group(), key


def _without(text: str, taken: set[str]) -> str:
    return _SENTENCE.sub(lambda found: "" if comparable(found.group()) in taken else found.group(), text)


def comparable(passage: str) -> str:
    """A passage as it is compared: case and white space do not count."""
    return " ".join(passage.lower().split())
