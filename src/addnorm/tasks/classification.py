"""Classification: a text's label, by an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from torch import Tensor

from addnorm.config import RunConfig
from addnorm.data.texts import labelled_text, records
from addnorm.data.texts.records import LabelledText, Splits
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError
from addnorm.task import Reader
from addnorm.tasks.text.bag_of_words import BagOfWords
from addnorm.tasks.text.encoder_problem import EncoderProblem
from addnorm.tasks.text.encoder_reader import EncoderReader, EncoderTask
from addnorm.tasks.text.targets import Labels


class ClassificationProblem(EncoderProblem):
    """Labels of texts: `loss = -mean ln p(label | text)`, in nats a text."""

    def baselines(self, records: Sequence[LabelledText]) -> Mapping[str, Tensor]:
        """Logistic regression on the texts' words."""
        labels, train = self.targets_, [record.text for record in self.splits.train]
        words = BagOfWords(train, self.truths, labels.outputs, labels.loss)
        return {"bag of words, logistic regression": words.outputs([record.text for record in records])}


@dataclass(frozen=True, kw_only=True)
class Classification(EncoderTask):
    """Classification: a text's label, by an encoder.

    Args:
        pooling: what the head reads: the `mean` over the real tokens, or the `first` token.
        frozen: so many of the lowest layers, and the embedding, keep the weights that a run starts from; 0 trains all.
            Fresh weights are never frozen.
        text: column of the texts in a table, by name or by number from 1; "" = the usual names.
        label: column of the labels, in the same way.

    Raises:
        UserError: a value is not allowed.
    """

    text: str | int = ""
    label: str | int = ""

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "vader",
        "init": "minilm",
        "context": 128,
        "batch_size": 32,
        "steps": 150,
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
        "data": "vader-source",
        "tokenizer": "bpe:2000",
        "layers": (2, 8),
        "d_model": 48,
        "context": 64,
        "batch_size": 16,
        "steps": (120,),
        "learning_rates": (3e-3,),
        "warm_up": 0.2,
        "seeds": 3,
        "score_items": 300,
    }

    @property
    def apart(self) -> bool:
        """There is only one."""
        return False

    def texts(self, record: LabelledText) -> tuple[str, ...]:
        """The text."""
        return (record.text,)

    def given(self, given: str, beside: str | None) -> tuple[str, ...]:
        """The text.

        Raises:
            UserError: it is empty, or two came.
        """
        if beside is not None:
            raise UserError("classification takes one text, two came; put the text in quotes.")
        if not given.strip():
            raise UserError("the text to classify is empty; give at least one word.")
        return (given,)

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> ClassificationProblem:
        """The texts loaded and the tokenizer built, or an earlier run's taken.

        Raises:
            UserError: the texts are missing or malformed, or a label was not in the training data.
        """
        assert reader is None or isinstance(reader, EncoderReader)
        splits = labelled_text.load(
            config.data,
            text=str(self.text),
            label=str(self.label),
            skip_bad=config.skip_bad,
            drop_repeats=config.drop_repeats,
        )
        if reader is None:
            reader = EncoderReader(self, _tokenizer(splits, config.tokenizer), Labels(names=records.labels(splits)))
        return ClassificationProblem(config, reader, splits)


@lru_cache(maxsize=2)
def _tokenizer(splits: Splits[LabelledText], name: str) -> Tokenizer:
    """The tokenizer, trained on the training texts if it must be; kept for the runs of a comparison."""
    return tokenizer.build(name, ["\n".join(record.text for record in splits.train)])
