"""How near an answer is to the gold answers: SQuAD's exact match and F1, and those for Chinese."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_PIECE = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+(?:[.,'][^\W\u4e00-\u9fff]+)*|[^\w\s]")
_PUNCTUATION = frozenset(string.punctuation)
_CHINESE_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What CMRC 2018 leaves out; other marks, such as an ASCII comma, count as characters there."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Exact match and F1 of an answer, each from 0 to 1; the best over the gold answers.

    Args:
        normalised: an answer as it is compared; answers that become empty by it are no gold answers.
        f1: overlap of two answers as they came.
        note: the convention.
    """

    normalised: Callable[[str], str]
    f1: Callable[[str, str], float]
    note: str

    def __call__(self, answer: str, gold: Sequence[str]) -> tuple[float, float]:
        """Exact match and F1; the answer "" says that there is none, and so do no gold answers."""
        real = [text for text in gold if self.normalised(text)] or [""]
        exact = max(float(self.normalised(answer) == self.normalised(text)) for text in real)
        return exact, max(self.f1(answer, text) for text in real)


def squad_normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, without articles, single spaces.

    >>> squad_normalised("The  U.S. (an ally)'s")
    'us allys'
    """
    bare = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def squad_f1(answer: str, gold: str) -> float:
    """F1 of the bags of words of two answers: `2 P R / (P + R)`; without words in one of them, whether both have none.

    Rajpurkar et al. 2016, arXiv:1606.05250; without words as in version 2, Rajpurkar et al. 2018, arXiv:1806.03822.

    >>> round(squad_f1("the red house", "a red big house!"), 2)
    0.8
    """
    ours, theirs = squad_normalised(answer).split(), squad_normalised(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1(sum((Counter(ours) & Counter(theirs)).values()), len(ours), len(theirs))


def chinese_normalised(text: str) -> str:
    """Lower case, without CMRC's punctuation marks and without white space around.

    >>> chinese_normalised(" 《红楼梦》 ")
    '红楼梦'
    """
    return "".join(character for character in text.lower().strip() if character not in _CHINESE_PUNCTUATION)


def chinese_f1(answer: str, gold: str) -> float:
    """F1 of two answers by their longest common run of characters, a run of Latin letters or digits being one.

    Cui et al. 2019 (CMRC 2018), arXiv:1810.07366, whose script takes the run; DRCD (Shao et al. 2018, arXiv:1806.00920)
    is measured with it too.

    >>> round(chinese_f1("北京大学", "北京的大学"), 3)
    0.444
    """
    ours, theirs = _characters(answer), _characters(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1(_longest_common_run(ours, theirs), len(ours), len(theirs))


SQUAD = Measure(normalised=squad_normalised, f1=squad_f1, note="SQuAD normalisation")
CHINESE = Measure(normalised=chinese_normalised, f1=chinese_f1, note="per character, as CMRC 2018")


def measure_for(texts: Sequence[str]) -> Measure:
    """The Chinese measure where most letters of the texts are Han characters, SQuAD's elsewhere.

    >>> measure_for(["北京在中国。"]).note
    'per character, as CMRC 2018'
    """
    joined = "".join(texts[:200])
    return CHINESE if 2 * len(_HAN.findall(joined)) > len(_LETTER.findall(joined)) else SQUAD


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs)  # = 2 P R / (P + R) with P = common / ours, R = common / theirs


def _characters(text: str) -> list[str]:
    """Han characters and other marks one by one; words of other scripts, and numbers such as 3.5, as one."""
    return _PIECE.findall(chinese_normalised(text))


def _longest_common_run(one: Sequence[str], other: Sequence[str]) -> int:
    longest, ends = 0, [0] * (len(other) + 1)
    for item in one:
        before = ends
        ends = [0] + [before[place] + 1 if item == their else 0 for place, their in enumerate(other)]
        longest = max(longest, *ends)
    return longest
