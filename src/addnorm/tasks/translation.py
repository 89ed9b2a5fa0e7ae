"""Translation: the encoder-decoder of "Attention Is All You Need"."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from addnorm.checks import check_count
from addnorm.config import RunConfig
from addnorm.data.texts import parallel_text, records
from addnorm.data.texts.records import Splits
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.batches import unigram_entropy
from addnorm.data.tokens.token_pairs import BucketedBatches, TokenPairs, lengths
from addnorm.errors import UserError, unknown
from addnorm.files import write_atomically
from addnorm.layers.cross_entropy import IGNORED, count, cross_entropy
from addnorm.models.beam_search import BeamSearch
from addnorm.task import Problem, Reader, Score, Split, Task, evaluating
from addnorm.tasks.pairs import bleu_words, translation_scores
from addnorm.tasks.pairs.translation_scores import TranslationMemory
from addnorm.tasks.pairs.translator import Translator, Vocabulary

EVALUATION_TOKENS = 2048
"""Tokens of a forward in evaluation, each side."""
SAMPLES = 20
"""Test items that a report shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ParallelTokens:
    """A parallel text in tokens."""

    vocabulary: Vocabulary
    train: TokenPairs
    validation: TokenPairs
    tokens_per_token: float
    fingerprint: str


class TranslationProblem(Problem):
    """`loss = -mean_t ln p(target_t | target_<t, source)`, in nats a target token; the end of the target is one.

    A step has `context * batch_size` tokens at most, each side: as many pairs of near lengths as fit. Training pairs
    with a side longer than `context` are left out; in evaluations none is.

    Args:
        config: the run.
        reader: vocabulary, search, and the body.
        splits: the texts.
        tokens: the same in tokens.
        bleu: how BLEU splits words.

    Raises:
        UserError: sacrebleu is missing and the run asks for scores, or all training pairs are too long.
    """

    def __init__(
        self,
        config: RunConfig,
        reader: Translator,
        splits: Splits[records.Translation],
        tokens: ParallelTokens,
        bleu: bleu_words.BleuWords,
    ) -> None:
        super().__init__(config, reader)
        self._bleu = bleu
        if config.score_items:
            translation_scores.sacrebleu()
            bleu_words.chosen(bleu, (pair.target for pair in splits.train))
        self.translator, self.splits, self.tokens = reader, splits, tokens
        self.left_out = int((_longest(tokens.train) > config.context).sum())
        if self.left_out == len(tokens.train):
            raise UserError(
                f"context={config.context}: every training pair of {splits.origin} is longer; give a larger context."
            )
        train = tokens.train.within(config.context)
        self.batches = BucketedBatches(pairs=train, seed=config.seed, tokens=config.context * config.batch_size)
        self._targets = lengths(train.targets).sum() - len(train)
        self._validation = tokens.validation.spread(config.evaluation_tokens)
        vocabulary, held_out = tokens.vocabulary, np.concatenate([row[1:] for row in self._validation.targets])
        trained = np.concatenate([row[1:] for row in train.targets])
        self._unigram_entropy = unigram_entropy(trained, held_out, vocabulary.size)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the texts and of the tokenizer."""
        return self.tokens.fingerprint

    @property
    def chance_loss(self) -> float:
        """The unigram entropy of the targets, in nats a token."""
        return self._unigram_entropy

    @property
    def tokens_per_example(self) -> int:
        """Target tokens of a pair, as measured over the training split."""
        return max(1, round(self._targets / len(self.batches.pairs)))

    @property
    def tokens_per_step(self) -> int:
        """Target tokens of a step, likewise: steps differ a little."""
        return max(1, round(self._targets / len(self.batches)))

    def given(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The source, and the target before each of its tokens."""
        source, target = batch
        return source, target[:, :-1]

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many examples as there are."""
        return float(len(self.batches))

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Sources and targets of a step, padded on the right; a target begins and ends with the end token."""
        return _tensors(self.batches.batch(step))

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Nats a target token, smoothed; a scalar with its graph."""
        source, target = batch
        return cross_entropy(
            self.translator.logits(model, source, target), self._expected(target), self.config.label_smoothing
        )

    def targets(self, batch: tuple[Tensor, ...]) -> int:
        """Target tokens that are no padding."""
        return int(count(self._expected(batch[1])))

    def evaluate(self, model: nn.Module) -> float:
        """Nats a target token on held-out pairs, without dropout and smoothing."""
        total = tokens = 0.0
        with evaluating(model):
            for numbers in self._validation.by_length(EVALUATION_TOKENS):
                source, target = _tensors(self._validation.rows(numbers))
                expected = self._expected(target)
                here = int(count(expected))
                total += cross_entropy(self.translator.logits(model, source, target), expected).item() * here
                tokens += here
        return total / tokens

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """BLEU and chrF of the task's beam search, with sacrebleu's signatures.

        Args:
            model: the encoder-decoder.
            split: of the texts.
            limit: pairs at most, spread evenly over the split; None = all.
            baselines: also those of the copied source and of a translation memory.
        """
        pairs = _spread(getattr(self.splits, split), limit)
        sources = [pair.source for pair in pairs]
        trivial: dict[str, Sequence[str]] = {}
        if baselines:
            memory = TranslationMemory(self.splits.train)
            trivial["copy of the source"] = sources
            trivial["target of the nearest training source"] = [memory.translate(source) for source in sources]
        translations = self.translator.translate(model, sources)
        return translation_scores.scores(translations, pairs, trivial, self._bleu_words())

    def facts(self) -> dict[str, Any]:
        """Sizes, and what was left out."""
        return {
            "vocab_size": self.tokens.vocabulary.size,
            "pairs": {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")},
            "training_pairs_left_out": self.left_out,
            "notes": list(self.splits.notes),
        }

    def report(self, model: nn.Module, folder: Path) -> list[Path]:
        """samples.tsv: source, translation and reference of some test pairs."""
        pairs = _spread(self.splits.test, SAMPLES)
        translations = self.translator.translate(model, [pair.source for pair in pairs])
        table = io.StringIO()
        writer = csv.writer(table, dialect="excel-tab", lineterminator="\n")
        writer.writerow(("source", "translation", "reference"))
        writer.writerows((p.source, text, p.target) for p, text in zip(pairs, translations, strict=True))
        write_atomically(folder / "samples.tsv", table.getvalue())
        return [folder / "samples.tsv"]

    def _bleu_words(self) -> str:
        return bleu_words.chosen(self._bleu, (pair.target for pair in self.splits.train))

    def _expected(self, target: Tensor) -> Tensor:
        """The token to come at each token of the target but the last."""
        expected = target[:, 1:]
        return expected.masked_fill(expected == self.tokens.vocabulary.pad, IGNORED)


@dataclass(frozen=True, kw_only=True)
class Translation(Task):
    """Translation: the encoder-decoder of "Attention Is All You Need", beam search, BLEU and chrF."""

    beam: int = 4
    """Sequences that the search follows; 1 is greedy."""
    length_penalty: float = 1.0
    """Of the search: 0 ranks by probability alone, larger values favour longer translations."""
    encoder_layers: int = 0
    """Layers of the encoder; 0 = as many as the decoder's num_layers."""
    source: str = ""
    """Column of the source in a table, by name or by number from 1; "" = the usual names."""
    target: str = ""
    """Column of the target."""
    bleu: bleu_words.BleuWords = "auto"
    """How BLEU splits words: one of sacrebleu's ways, or "auto": 13a, and by the script zh, ja-mecab or char."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "bible",
        "tokenizer": "bpe:4000",
        "context": 128,
        "batch_size": 6,
        "d_model": 128,
        "num_heads": 4,
        "num_layers": 3,
        "steps": 5000,
        "learning_rate": 3e-3,
        "warm_up": 0.06,
        "label_smoothing": 0.1,
        "ema": 0.998,
        "score_items": 100,
    }
    comparison: ClassVar[Mapping[str, Any]] = {
        "task": "translation(beam=1)",
        "data": "bible",
        "tokenizer": "bpe:1000",
        "schemes": ("pre-norm", "post-norm", "mhc"),
        "layers": (1, 3),
        "d_model": 64,
        "num_heads": 4,
        "context": 128,
        "batch_size": 4,
        "steps": 200,
        "seeds": 3,
    }

    def __post_init__(self) -> None:
        if self.encoder_layers:
            check_count("encoder_layers", self.encoder_layers)
        self._search()  # refuses what is out of range
        if self.bleu not in bleu_words.CHOICES:
            raise unknown("bleu", str(self.bleu), bleu_words.CHOICES)

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> TranslationProblem:
        """The parallel text loaded and its tokenizer trained on both languages, or an earlier run's taken.

        Raises:
            UserError: the text is missing, damaged or misaligned.
        """
        assert reader is None or isinstance(reader, Translator)
        splits = parallel_text.load(
            config.data,
            from_=str(self.source),
            to=str(self.target),
            skip_bad=config.skip_bad,
            drop_repeats=config.drop_repeats,
        )
        tokens = _tokens(splits, config.tokenizer, None if reader is None else reader.vocabulary.tokenizer)
        ratio = tokens.tokens_per_token if reader is None else reader.tokens_per_token
        own = Translator(tokens.vocabulary.tokenizer, ratio, self._search(), self.encoder_layers)
        return TranslationProblem(config, own, splits, tokens, self.bleu)

    def reader(self, folder: Path) -> Translator:
        """The vocabulary that a run was trained with.

        Raises:
            UserError: a file is missing or damaged.
        """
        return Translator.load(folder, self._search(), self.encoder_layers)

    def _search(self) -> BeamSearch:
        return BeamSearch(beam=self.beam, length_penalty=self.length_penalty)


@lru_cache(maxsize=2)
def _tokens(splits: Splits[records.Translation], name: str, kept: tokenizer.Tokenizer | None = None) -> ParallelTokens:
    """The tokens of a parallel text; kept, for the runs of a comparison that follow each other in one process."""
    texts = ("\n".join(getattr(pair, side) for pair in splits.train) for side in ("source", "target"))
    vocabulary = Vocabulary(tokenizer=kept or tokenizer.build(name, texts))
    train, validation = vocabulary.pairs(splits.train), vocabulary.pairs(splits.validation)
    identity = json.dumps([splits.fingerprint(), vocabulary.tokenizer.fingerprint()])
    return ParallelTokens(
        vocabulary=vocabulary,
        train=train,
        validation=validation,
        tokens_per_token=float(lengths(train.targets).sum() / lengths(train.sources).sum()),
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
    )


def _longest(pairs: TokenPairs) -> np.ndarray:
    return np.maximum(lengths(pairs.sources), lengths(pairs.targets))


def _spread(pairs: Sequence[records.Translation], limit: int | None) -> list[records.Translation]:
    """All of them, or so many, evenly over the split."""
    kept = len(pairs) if limit is None else min(limit, len(pairs))
    return [pairs[number * len(pairs) // kept] for number in range(kept)]


def _tensors(batch: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
