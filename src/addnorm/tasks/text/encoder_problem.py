"""Labels or scores of texts and of pairs of texts, learned by an encoder with a head."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from addnorm.config import RunConfig
from addnorm.data.texts.records import Splits
from addnorm.files import write_atomically
from addnorm.task import Problem, Score, Split, evaluating
from addnorm.tasks.text.encoder_reader import EncoderReader, Inputs, encoded
from addnorm.tasks.text.encoder_texts import LengthBatches, by_length

SAMPLES = 20
"""Test items that a report shows."""


class EncoderProblem(Problem):
    """`loss = mean over items of` what `reader.targets` says: nats, or squared error.

    Args:
        config: the run.
        reader: tokenizer, targets, and the model.
        splits: the records.
    """

    def __init__(self, config: RunConfig, reader: EncoderReader, splits: Splits[Any]) -> None:
        super().__init__(config, reader)
        self.encoder, self.targets_, self.splits = reader, reader.targets, splits
        self.chance_name, self.loss_name = reader.targets.chance_name, reader.targets.loss_name  # pyrefly: ignore
        self.train = _inputs(reader, splits.train, config.context)
        self.truths = reader.targets.numbers(splits.train, f"training split of {splits.origin}, its")
        self.batches = LengthBatches(lengths=self.train.lengths, seed=config.seed, batch_size=config.batch_size)
        items = max(1, round(config.evaluation_tokens / self.tokens_per_example))
        held_out = self._numbers("validation", items)
        self.validation = _inputs(reader, _some(splits.validation, held_out), config.context)
        self.validation_truths = self._truths("validation")[held_out]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the records and of the tokenizer."""
        identity = json.dumps([self.splits.fingerprint(), self.encoder.tokenizer.fingerprint()])
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def chance_loss(self) -> float:
        """The loss of who knows how the training truths are spread."""
        return self.targets_.chance(self.truths, self.validation_truths)

    @property
    def tokens_per_example(self) -> int:
        """Tokens of an item, without padding, as measured over the training split."""
        return max(1, round(self.train.tokens / len(self.train)))

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many examples as there are."""
        return len(self.train) / self.config.batch_size

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Ids, segments and truths of a step: a function of the config's seed and the step."""
        numbers = self.batches.numbers(step)
        return (*self.train.batch(numbers), self.truths[numbers])

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean over a batch, smoothed; a scalar with its graph."""
        return self.targets_.loss(self.encoder.outputs(model, batch), batch[2], self.config.label_smoothing)

    def evaluate(self, model: nn.Module) -> float:
        """The mean over held-out items."""
        return float(self.targets_.loss(self.outputs(model, self.validation), self.validation_truths))

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """The field's metrics, each beside the best of the trivial answers; the others stand in its note."""
        numbers = self._numbers(split, limit)
        records, truths = _some(getattr(self.splits, split), numbers), self._truths(split)[numbers]
        own = self.outputs(model, _inputs(self.encoder, records, self.config.context))
        trivial = self._trivial(records) if baselines else {}
        measured = {name: self.targets_.metrics(outputs, truths) for name, outputs in trivial.items()}
        return [_score(name, value, measured) for name, value in self.targets_.metrics(own, truths).items()]

    @abstractmethod
    def baselines(self, records: Sequence[Any]) -> Mapping[str, Tensor]:
        """What simple models without an encoder give out for some records, by their names."""

    def facts(self) -> dict[str, Any]:
        """Sizes, what is asked for, and what was left out while reading."""
        return {
            "data": self.splits.origin,
            "vocab_size": self.encoder.tokenizer.vocab_size,
            "items": {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")},
            "targets": self.targets_.as_json(),
            "cut_items": int((self.train.lengths >= self.config.context).sum()),
            "notes": list(self.splits.notes),
        }

    def report(self, model: nn.Module, folder: Path) -> list[Path]:
        """samples.tsv: text, truth and answer of some test items."""
        records = _some(self.splits.test, self._numbers("test", SAMPLES))
        found = self.outputs(model, _inputs(self.encoder, records, self.config.context))
        table = io.StringIO()
        writer = csv.writer(table, dialect="excel-tab", lineterminator="\n")
        for record, output in zip(records, found, strict=True):
            truth = getattr(record, "label", getattr(record, "score", None))
            writer.writerow((*self.encoder.task.texts(record), truth, self.targets_.answer(output).text))
        write_atomically(folder / "samples.tsv", table.getvalue())
        return [folder / "samples.tsv"]

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """What a model gives out for all items of a split, in their order."""
        found = torch.zeros(len(inputs), self.targets_.outputs)
        with evaluating(model):
            for numbers in by_length(inputs.lengths * len(inputs.rows)):
                found[numbers] = self.encoder.outputs(model, inputs.batch(numbers)).float()
        return found

    def _trivial(self, records: Sequence[Any]) -> dict[str, Tensor]:
        constant = self.targets_.constant(self.truths, len(records))
        return {**self.baselines(records), **({} if constant is None else {"most frequent label": constant})}

    def _truths(self, split: str) -> Tensor:
        return self.targets_.numbers(getattr(self.splits, split), f"{split} split of {self.splits.origin}, its")

    def _numbers(self, split: str, limit: int | None) -> np.ndarray:
        """All items of a split, or so many, evenly over it."""
        items = len(getattr(self.splits, split))
        kept = items if limit is None else min(limit, items)
        return np.arange(kept) * items // kept


def _some(records: Sequence[Any], numbers: np.ndarray) -> tuple[Any, ...]:
    return tuple(records[number] for number in numbers)


def _score(name: str, value: float, measured: Mapping[str, Mapping[str, float]]) -> Score:
    """A metric beside the best trivial answer."""
    ranked = sorted(((figures[name], trivial) for trivial, figures in measured.items()), reverse=True)
    note = "; ".join(f"{trivial}: {figure:.1f}" for figure, trivial in ranked[1:])
    best, trivial = ranked[0] if ranked else (None, "")
    low = -100.0 if name in ("Spearman", "Pearson") else 0.0
    return Score(name=name, value=value, baseline=best, baseline_name=trivial, note=note, lowest=low, highest=100.0)


def _inputs(reader: EncoderReader, records: tuple[Any, ...], limit: int) -> Inputs:
    return encoded(reader.frame, reader.task.apart, tuple(reader.task.texts(record) for record in records), limit)
