"""BLEU and chrF by sacrebleu, and what needs no model to translate."""

from __future__ import annotations

import importlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from addnorm.data.texts.records import Translation
from addnorm.errors import UserError
from addnorm.task import Score

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class TranslationMetric:
    """A metric of the translations of a whole split, and the signature that says how it was computed."""

    name: str
    value: float
    signature: str


def measured(translations: Sequence[str], references: Sequence[str], words: str = "13a") -> list[TranslationMetric]:
    """BLEU and chrF of whole texts, in per cent; sacrebleu splits the words, as `words` says; the signature has it.

    BLEU: Papineni et al. 2002; chrF: Popovic 2015; signatures: Post 2018, arXiv:1804.08771.

    Raises:
        UserError: sacrebleu is not installed.
    """
    found = []
    for metric in (sacrebleu().BLEU(tokenize=words), sacrebleu().CHRF()):
        score = metric.corpus_score(list(translations), [list(references)])
        signature = str(metric.get_signature())
        found.append(TranslationMetric(name=score.name.rstrip("0123456789"), value=score.score, signature=signature))
    return found


def sacrebleu() -> Any:
    """The metrics of the package sacrebleu.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("sacrebleu.metrics")
    except ImportError:
        raise UserError(
            "BLEU and chrF need the package sacrebleu; run: pip install 'addnorm[translation]', "
            "or train without them: score_items=0."
        ) from None


def scores(
    translations: Sequence[str],
    records: Sequence[Translation],
    baselines: dict[str, Sequence[str]],
    words: str = "13a",
) -> list[Score]:
    """BLEU and chrF, each beside the best of what trivial translators get; the others stand in the note.

    Args:
        translations: of the records' sources.
        records: what was translated.
        baselines: translations of the same by each trivial translator.
        words: how BLEU splits them.
    """
    references = [record.target for record in records]
    trivial = {name: measured(texts, references, words) for name, texts in baselines.items()}
    found = []
    for number, own in enumerate(measured(translations, references, words)):
        ranked = sorted(((each[number].value, name) for name, each in trivial.items()), reverse=True)
        others = [f"{name} {value:.1f}" for value, name in ranked[1:]]
        best, name = ranked[0] if ranked else (None, "")
        note = "; ".join([own.signature, *others])
        found.append(Score(name=own.name, value=own.value, baseline=best, baseline_name=name, note=note, highest=100.0))
    return found


class TranslationMemory:
    """Gives the target of the training pair whose source has most words in common, rare words counting more.

        nearest(s) = argmax_i  sum over w in both of idf(w)^2 / |i|,   |i| = sqrt(sum over w in i of idf(w)^2)

    The cosine of sets of words weighted by `idf(w) = ln(pairs / pairs with w)`. What a translator without a model does.

    Args:
        records: the training pairs.
    """

    def __init__(self, records: Sequence[Translation]) -> None:
        self.targets = [record.target for record in records]
        found: dict[str, list[int]] = defaultdict(list)
        for number, record in enumerate(records):
            for word in _words(record.source):
                found[word].append(number)
        self.holders = {word: np.array(numbers) for word, numbers in found.items()}
        squares = np.zeros(len(records))
        for word, holders in self.holders.items():
            squares[holders] += self._weight(word)
        self.norms = np.sqrt(np.maximum(squares, 1e-12))  # a source of no words but such as all have

    def translate(self, text: str) -> str:
        """The target of the nearest source; the first of those that are equally near."""
        common = np.zeros(len(self.targets))
        for word in sorted(_words(text) & self.holders.keys()):
            common[self.holders[word]] += self._weight(word)
        return self.targets[int((common / self.norms).argmax())]

    def _weight(self, word: str) -> float:
        return math.log(len(self.targets) / len(self.holders[word])) ** 2


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
