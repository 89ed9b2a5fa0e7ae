"""Three translations of the Bible, verse by verse: World English Bible, King James Version, Reina-Valera 1909.

Origin and licence: NOTICE at the root of the repository. Made by scripts/build_bible.py.
"""

from __future__ import annotations

import functools
import lzma
from collections.abc import Iterable
from dataclasses import dataclass

from addnorm.data.sets import shipped
from addnorm.data.texts.records import Splits, Translation

ARCHIVE = "bible.tsv.xz"
ARCHIVE_SHA256 = "36e432c8cc5ab31e9abedc2d67b94a4582bce5466bb6b5f196babe54a767199a"
VALIDATION = ("I Samuel", "Ecclesiastes", "Hosea", "Micah", "Philippians", "James")
"""A history, a book of wisdom, two prophets, two letters; 1,546 verses, never trained on."""
TEST = ("Judges", "Ruth", "Lamentations", "Daniel", "Jonah", "Galatians", "I Peter")
"""Two histories, laments, two prophets, two letters; 1,516 verses, never trained on, never chosen by.

No book that retells another (Kings and Chronicles, the first three Gospels) is held out: two of the 3,062 held-out
verses stand word for word in a training book.
"""


@dataclass(frozen=True, kw_only=True)
class Verse:
    """One verse; a translation that leaves it out, or has it damaged, has an empty text."""

    book: str
    chapter: int
    number: int
    web: str
    kjv: str
    rv: str


@dataclass(frozen=True, kw_only=True)
class VerseSplits:
    """Whole books to train on, to choose by, and to report on."""

    train: tuple[Verse, ...]
    validation: tuple[Verse, ...]
    test: tuple[Verse, ...]


@functools.cache
def verses() -> VerseSplits:
    """All 31,102 verses in the Bible's order.

    Raises:
        UserError: the installed file is not the shipped one.
    """
    lines = lzma.decompress(shipped.read(ARCHIVE, ARCHIVE_SHA256)).decode().splitlines()
    everything = [_verse(line) for line in lines]
    return VerseSplits(
        train=tuple(verse for verse in everything if verse.book not in VALIDATION + TEST),
        validation=tuple(verse for verse in everything if verse.book in VALIDATION),
        test=tuple(verse for verse in everything if verse.book in TEST),
    )


@functools.cache
def translation_pairs() -> Splits[Translation]:
    """English to Spanish: World English Bible to Reina-Valera 1909.

    31,077 verses have a text in both; 384 of them are left out, because words are glued together in the Spanish text.
    """
    splits = verses()
    return Splits(
        origin="bible",
        train=_pairs(splits.train),
        validation=_pairs(splits.validation),
        test=_pairs(splits.test),
    )


def _pairs(chosen: Iterable[Verse]) -> tuple[Translation, ...]:
    return tuple(Translation(source=verse.web, target=verse.rv) for verse in chosen if verse.web and verse.rv)


def _verse(line: str) -> Verse:
    book, chapter, number, web, kjv, rv = line.split("\t")
    return Verse(book=book, chapter=int(chapter), number=int(number), web=web, kjv=kjv, rv=rv)
