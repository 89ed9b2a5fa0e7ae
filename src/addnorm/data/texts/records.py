"""Labelled texts, pairs, translations and questions, in three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from addnorm.data.texts.text import HELD_OUT
from addnorm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LabelledText:
    """A text and its class."""

    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class SentencePair:
    """Two sentences and what holds between them."""

    first: str
    second: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """Two sentences and how near they are in meaning."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A sentence in two languages."""

    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A span of a context: `context[start : start + len(text)] == text`."""

    text: str
    start: int


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a context; without answers where the context does not answer it."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]


Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Splits(Generic[Record]):
    """Records to train on, to choose by, and to report on; `notes` say what was left out while reading."""

    origin: str
    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 over every split's records: equal exactly when the data are equal."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(f"split {len(split)}\n".encode())
            for record in split:
                digest.update(f"{record!r}\n".encode())
        return digest.hexdigest()


def labels(splits: Splits[Any]) -> tuple[str, ...]:
    """The labels of the training split, sorted.

    Raises:
        UserError: there is only one, or a held-out record has a label that no training record has.
    """
    known = sorted({record.label for record in splits.train})
    if len(known) < 2:
        raise UserError(f"every training record of {splits.origin} has the label '{known[0]}'; two or more are needed.")
    for name, split in (("validation", splits.validation), ("test", splits.test)):
        for number, record in enumerate(split, start=1):
            if record.label not in known:
                raise UserError(
                    f"label '{record.label}' of {name} record {number} of {splits.origin} is in no training record; "
                    f"the training labels are {', '.join(known[:20])}."
                )
    return tuple(known)


def _label(record: Any) -> str:
    return getattr(record, "label", "")


def hold_out(
    records: Sequence[Record],
    key: Callable[[Record], str],
    *,
    origin: str,
    parts: int = 2,
    share: float = HELD_OUT,
    stratum: Callable[[Record], str] = _label,
) -> list[tuple[Record, ...]]:
    """The training records, then `parts` held-out splits of about `share` each.

    Which records are held out is decided by the hash of their key, whatever their order; records of one key stay
    together, so that a text that comes twice is not in two splits. Of each stratum (label) the same share is held out.

    Raises:
        UserError: there are too few records to fill every split.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(" ".join(key(record).lower().split()), []).append(record)
    strata: dict[str, list[str]] = {}
    for name in sorted(groups, key=_hash):
        strata.setdefault(stratum(groups[name][0]), []).append(name)
    part_of: dict[int, int] = {}
    for names in strata.values():
        size = max(1, round(len(names) * share)) if len(names) > parts else 0
        for position, name in enumerate(names[: size * parts]):
            part_of.update((id(record), 1 + position // size) for record in groups[name])
    splits = [tuple(r for r in records if part_of.get(id(r), 0) == part) for part in range(parts + 1)]
    if not all(splits):
        raise UserError(
            f"{origin} has {len(groups)} different records, too few to hold {parts * share:.0%} out; "
            "add records, or name files for validation and test."
        )
    return splits


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
