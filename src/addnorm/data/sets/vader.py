"""Sentences with human ratings of their sentiment: tweets, movie reviews, product reviews, newspaper editorials.

Hutto and Gilbert, 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM.
Origin and licence: NOTICE at the root of the repository. Made by scripts/build_vader.py.
"""

from __future__ import annotations

import functools
import lzma
import re
from collections.abc import Callable
from dataclasses import dataclass

from addnorm.data.sets import shipped
from addnorm.data.texts.records import LabelledText, Splits, hold_out

ARCHIVE = "vader.tsv.xz"
ARCHIVE_SHA256 = "aaa91a308ce395df67c7fc9f8ce53927d94356ee2a61894618bc1299d497fe9f"
SHARE = 0.1
"""Held out for validation, and again for test."""
NEUTRAL = 0.5
"""A movie review whose mean rating is no further than this from zero is left out: raters did not agree on its sign."""


@dataclass(frozen=True, kw_only=True)
class Rated:
    """A sentence, the text it is of, and the mean of its ratings, -4 to 4."""

    source: str
    number: str
    mean: float
    text: str


@functools.cache
def sentences() -> tuple[Rated, ...]:
    """All sentences; one that comes again, but for case and punctuation, is left out.

    Raises:
        UserError: the installed file is not the shipped one.
    """
    lines = lzma.decompress(shipped.read(ARCHIVE, ARCHIVE_SHA256)).decode().splitlines()
    first: dict[str, Rated] = {}
    for line in lines:
        source, number, mean, text = line.split("\t")
        words = " ".join(re.findall(r"\w+", text.lower())) or text
        first.setdefault(words, Rated(source=source, number=number, mean=float(mean), text=text))
    return tuple(first.values())


@functools.cache
def movie_sentiment() -> Splits[LabelledText]:
    """Movie reviews of one sentence, positive or negative by the sign of their mean rating."""
    clear = [rated for rated in sentences() if rated.source == "movie" and abs(rated.mean) > NEUTRAL]
    return _splits("vader", clear, lambda rated: "positive" if rated.mean > 0 else "negative")


@functools.cache
def text_source() -> Splits[LabelledText]:
    """Which of four places a sentence is from: tweet, movie (review), product (review), news.

    Sentences of one product review or one editorial are in one split.
    """
    return _splits("vader-source", list(sentences()), lambda rated: rated.source)


def _splits(origin: str, chosen: list[Rated], label: Callable[[Rated], str]) -> Splits[LabelledText]:
    train, validation, test = (
        tuple(LabelledText(text=rated.text, label=label(rated)) for rated in split)
        for split in hold_out(chosen, _whole_text, origin=origin, share=SHARE, stratum=label)
    )
    return Splits(origin=origin, train=train, validation=validation, test=test)


def _whole_text(rated: Rated) -> str:
    """The text a sentence is of: sentence 3 of editorial 12 has the number 12_3."""
    return f"{rated.source} {rated.number.split('_')[0]}"
