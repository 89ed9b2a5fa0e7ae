"""Entailment: what holds between two texts, or how near they are in meaning, by an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from addnorm.config import RunConfig
from addnorm.data.texts import records, sentence_pairs
from addnorm.data.texts.records import ScoredPair, SentencePair, Splits
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError, unknown
from addnorm.task import Reader
from addnorm.tasks.text.bag_of_words import BagOfWords
from addnorm.tasks.text.encoder_problem import EncoderProblem
from addnorm.tasks.text.encoder_reader import EncoderReader, EncoderTask
from addnorm.tasks.text.targets import Labels, Scale, Targets
from addnorm.tasks.text.word_overlap import OverlapThreshold, overlap

Pair = SentencePair | ScoredPair


class EntailmentProblem(EncoderProblem):
    """Labels of pairs of texts, `loss = -mean ln p(label | first, second)` in nats a pair, or scores."""

    def baselines(self, records: Sequence[Pair]) -> Mapping[str, Tensor]:
        """The words that both texts share, and a linear model that sees the second text only."""
        targets, train = self.targets_, self.splits.train
        words = BagOfWords([pair.second for pair in train], self.truths, targets.outputs, targets.loss)
        alone = words.outputs([pair.second for pair in records])
        shared = [overlap(pair.first, pair.second) for pair in records]
        if isinstance(targets, Labels):
            seen = [overlap(pair.first, pair.second) for pair in train]
            threshold = OverlapThreshold(seen, self.truths, targets.outputs)
            return {"word overlap, threshold": threshold.outputs(shared), "second text only, bag of words": alone}
        return {"word overlap": torch.tensor(shared)[:, None], "second text only, bag of words": alone}


@dataclass(frozen=True, kw_only=True)
class Entailment(EncoderTask):
    """Entailment: what holds between two texts, or how near they are in meaning, by an encoder.

    Args:
        pooling: what the head reads: the `mean` over the real tokens, or the `first` token.
        frozen: so many of the lowest layers, and the embedding, keep the weights that a run starts from; 0 trains all.
            Fresh weights are never frozen.
        pair: `cross` reads both texts in one input, [CLS] first [SEP] second [SEP]; `siamese` encodes them apart and
            compares their vectors.
        target: what is learned: a `label`, or a `score` by regression.
        first: column of the first texts in a table, by name or by number from 1; "" = the usual names.
        second: column of the second texts, in the same way.
        label: column of the labels, in the same way.
        score: column of the scores, in the same way.

    Raises:
        UserError: a value is not allowed.
    """

    pair: Literal["cross", "siamese"] = "cross"
    target: Literal["label", "score"] = "label"
    first: str | int = ""
    second: str | int = ""
    label: str | int = ""
    score: str | int = ""

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "paraphrase",
        "init": "minilm",
        "segments": 2,
        "context": 160,
        "batch_size": 32,
        "steps": 120,
        "learning_rate": 1e-4,
        "warm_up": 0.1,
        "schedule": "linear",
        "weight_decay": 0.01,
        "evaluations": 3,
        "evaluation_tokens": 8192,
        "signals": 2,
    }
    comparison: ClassVar[Mapping[str, Any]] = {
        "schemes": ("pre-norm", "post-norm", "attention-residuals"),
        "data": "paraphrase",
        "tokenizer": "bpe:2000",
        "layers": (2, 8),
        "d_model": 48,
        "context": 160,
        "batch_size": 8,
        "steps": (120,),
        "learning_rates": (3e-3,),
        "warm_up": 0.2,
        "seeds": 3,
        "score_items": 300,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("pair", ("cross", "siamese")), ("target", ("label", "score"))):
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)

    @property
    def apart(self) -> bool:
        """As `pair` says."""
        return self.pair == "siamese"

    def texts(self, record: Pair) -> tuple[str, ...]:
        """Both texts."""
        return record.first, record.second

    def given(self, given: str, beside: str | None) -> tuple[str, ...]:
        """Both texts.

        Raises:
            UserError: one is missing or empty.
        """
        if beside is None:
            raise UserError("entailment takes two texts, one came; give the second after the first.")
        for name, text in (("first", given), ("second", beside)):
            if not text.strip():
                raise UserError(f"the {name} text is empty; give at least one word.")
        return given, beside

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> EntailmentProblem:
        """The pairs loaded and the tokenizer built, or an earlier run's taken.

        Raises:
            UserError: the pairs are missing or malformed, a label was not in the training data, or there are no scores.
        """
        assert reader is None or isinstance(reader, EncoderReader)
        splits = self._splits(config)
        if reader is None:
            reader = EncoderReader(self, _tokenizer(splits, config.tokenizer), self._targets(splits))
        return EntailmentProblem(config, reader, splits)

    def _splits(self, config: RunConfig) -> Splits[Any]:
        source, how = config.data, {"skip_bad": config.skip_bad, "drop_repeats": config.drop_repeats}
        first, second = str(self.first), str(self.second)
        if self.target == "label":
            return sentence_pairs.load(source, first=first, second=second, label=str(self.label), **how)
        if source in sentence_pairs.NAMED:
            raise UserError(f"'{source}' has labels and no scores; leave target=label, or name data with scores.")
        return sentence_pairs.load_scores(source, first=first, second=second, score=str(self.score), **how)

    def _targets(self, splits: Splits[Any]) -> Targets:
        if self.target == "label":
            return Labels(names=records.labels(splits))
        return Scale.of([pair.score for pair in splits.train], splits.origin)


@lru_cache(maxsize=2)
def _tokenizer(splits: Splits[Any], name: str) -> Tokenizer:
    """The tokenizer, trained on the training texts if it must be; kept for the runs of a comparison."""
    return tokenizer.build(name, ["\n".join(f"{pair.first}\n{pair.second}" for pair in splits.train)])
