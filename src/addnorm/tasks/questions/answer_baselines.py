"""Answers without a model: what a question answerer must beat."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import cache

from addnorm.data.sets import bible, cloze
from addnorm.data.texts.records import Question

REACH = 10
"""Words on each side of a candidate among which the question's words are looked for."""
MOST_WORDS = 5
"""Of an answer by word overlap."""
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")
_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a an the and or but if of in on at to for from by with as that which who whom whose this these those it its "
        "he she they them his her their we us our you your i my me is are was were be been being has have had do does "
        "did not no will would shall should can could may might must there then than so also into over under after"
    )
)


def trivial_answers(origin: str, no_answer: bool) -> dict[str, Callable[[Question], str]]:
    """The answers that need no model, by their names.

    Args:
        origin: of the data; for "cloze" the most frequent name is one of them.
        no_answer: whether a question may have none; that none has is then one of them.
    """
    found: dict[str, Callable[[Question], str]] = {"word overlap": by_word_overlap}
    if origin == "cloze":
        found["most frequent name of the context"] = most_frequent_name
    if no_answer:
        found["never an answer"] = _nothing
    return found


def most_frequent_name(question: Question) -> str:
    """The name that a context has most often; of several the one that comes last.

    What a name is, is known from the whole text, as it is to the maker of the questions.
    """
    known = _names_of_the_bible()
    words = [word for word in re.findall(r"[A-Za-z]+", question.context) if word in known]
    counts = Counter(words)
    last = {word: place for place, word in enumerate(words)}
    return max(counts, key=lambda word: (counts[word], last[word]), default="")


def by_word_overlap(question: Question) -> str:
    """The words that stand nearest to the question's rare words.

        score(w) = sum over the question's words v within REACH words of w of ln(1 + 1 / count(v)) / distance(v, w)

    The best word that is neither in the question nor a function word, with such words beside it, five at most. The
    weights are those of the sliding window of Richardson et al. 2013 (MCTest), counted in the context.
    """
    words = list(_WORD.finditer(question.context))
    keys = [word.group().lower() for word in words]
    asked, counts = {match.lower() for match in _WORD.findall(question.question)}, Counter(keys)
    weights = [math.log(1 + 1 / counts[key]) if key in asked else 0.0 for key in keys]
    candidates = [place for place, key in enumerate(keys) if key not in asked and key not in _FUNCTION_WORDS]
    if not candidates:
        return ""
    best = max(candidates, key=lambda place: _nearness(weights, place))
    first, last, chosen = best, best, set(candidates)
    while last + 1 in chosen and last - best + 1 < MOST_WORDS and _adjacent(question.context, words, last):
        last += 1
    while first - 1 in chosen and last - first + 1 < MOST_WORDS and _adjacent(question.context, words, first - 1):
        first -= 1
    return question.context[words[first].start() : words[last].end()]


def _nearness(weights: list[float], place: int) -> float:
    reached = range(max(0, place - REACH), min(len(weights), place + REACH + 1))
    return sum(weights[other] / abs(other - place) for other in reached if other != place)


def _adjacent(context: str, words: list[re.Match[str]], place: int) -> bool:
    """Whether nothing but white space stands between a word and the next."""
    return not context[words[place].end() : words[place + 1].start()].strip()


def _nothing(question: Question) -> str:
    return ""


@cache
def _names_of_the_bible() -> frozenset[str]:
    splits = bible.verses()
    return cloze.names(verse.web for split in (splits.train, splits.validation, splits.test) for verse in split)
