"""Questions made from a text: the name that is missing from a verse, given the four verses before it."""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Iterable

from addnorm.data.sets import bible
from addnorm.data.sets.bible import Verse
from addnorm.data.texts.records import Answer, Question, Splits

VERSES_BEFORE = 4
BLANK = "_____"
"""Stands for the name wherever the verse has it."""
MIN_OCCURRENCES = 5
"""A name stands inside a sentence, where only names are capitalised, this often."""
MAX_SHARE = 0.1
"""A name in more of the verses is not asked for; that is Yahweh alone, in 18 % of them."""
_WORD = re.compile(r"[A-Za-z]+")
_SENTENCE_START = re.compile(r"(?:^|[.?!:;][”’)]*\s|[“‘(])[“‘(]*$")


@functools.cache
def cloze_questions() -> Splits[Question]:
    """Questions from the World English Bible, split by book as `bible.verses` is.

    The answer is a name that the four verses before the verse have, and they have another name as well. Where a verse
    has several such names, one is drawn by the hash of the verse's place.
    """
    splits = bible.verses()
    known = names(verse.web for split in (splits.train, splits.validation, splits.test) for verse in split)
    return Splits(
        origin="cloze",
        train=_questions(splits.train, known),
        validation=_questions(splits.validation, known),
        test=_questions(splits.test, known),
    )


def names(texts: Iterable[str]) -> frozenset[str]:
    """The names of a text, by its capitals alone.

    A name is capitalised inside a sentence at least `MIN_OCCURRENCES` times, is never written in lower case, has more
    than one letter and stands in at most `MAX_SHARE` of the verses.

    >>> few = ["Then David spoke.", "So then Saul saw Judah."]
    >>> sorted(names(few + ["He saw Saul and I saw Abner."] * 5 + ["then"] * 70))
    ['Abner', 'Saul']
    """
    capitalised, anywhere, lower = Counter[str](), Counter[str](), set[str]()
    count = 0
    for text in texts:
        count += 1
        words = list(_WORD.finditer(text))
        anywhere.update({match.group() for match in words})
        lower.update(match.group() for match in words if match.group()[0].islower())
        for match in words:
            word = match.group()
            if word[0].isupper() and not _SENTENCE_START.search(text[max(0, match.start() - 6) : match.start()]):
                capitalised[word] += 1
    return frozenset(
        word
        for word, times in capitalised.items()
        if times >= MIN_OCCURRENCES
        and len(word) > 1
        and word.lower() not in lower
        and anywhere[word] <= MAX_SHARE * count
    )


def _questions(verses: tuple[Verse, ...], known: frozenset[str]) -> tuple[Question, ...]:
    there = [verse for verse in verses if verse.web]
    named = [known.intersection(_WORD.findall(verse.web)) for verse in there]
    questions = []
    for end in range(VERSES_BEFORE, len(there)):
        *before, verse = there[end - VERSES_BEFORE : end + 1]
        candidates = frozenset().union(*named[end - VERSES_BEFORE : end])
        here = sorted(candidates & named[end])
        if before[0].book == verse.book and len(candidates) >= 2 and here:
            questions.append(_question(before, verse, here))
    return tuple(questions)


def _question(before: list[Verse], verse: Verse, here: list[str]) -> Question:
    """The verse without one of the names that are here and before."""
    context = " ".join(earlier.web for earlier in before)
    place = f"{verse.book} {verse.chapter}:{verse.number}"
    name = here[int(hashlib.sha256(place.encode()).hexdigest(), 16) % len(here)]
    whole_word = re.compile(rf"(?<![A-Za-z]){name}(?![A-Za-z])")
    return Question(
        id=place,
        question=whole_word.sub(BLANK, verse.web),
        context=context,
        answers=tuple(Answer(text=name, start=match.start()) for match in whole_word.finditer(context)),
    )
