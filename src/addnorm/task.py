"""What a task is: its choices, its data, and what a trained model needs to speak.

task = tasks.parse("classification(labels=4)")      # frozen choices, no data
problem = task.prepare(config)                       # data loaded; batches, loss, scores
reader = task.reader(folder)                         # of a run: tokenizer, labels; no data
model = problem.reader.build(config)                 # the body with its head, fresh
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from addnorm.config import RunConfig
from addnorm.errors import UserError

Split = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure of the field's own metric, beside what a trivial answer gets.

    Args:
        name: as the field writes it: "BLEU", "accuracy".
        value: in the metric's own unit.
        better: which way is better.
        baseline: what the trivial answer gets on the same items; None where there is none.
        baseline_name: the trivial answer, in words.
        note: what belongs to the figure, such as sacrebleu's signature.
        lowest, highest: the ends of the metric's range, beyond which no interval is drawn; None for no end.
    """

    name: str
    value: float
    better: Literal["higher", "lower"] = "higher"
    baseline: float | None = None
    baseline_name: str = ""
    note: str = ""
    lowest: float | None = 0.0
    highest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's answer to one input.

    Args:
        text: the answer for a reader.
        values: the same as plain data, for JSON.
        write: writes pictures or frames into a folder and names them; None where the answer is a text.
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    write: Callable[[Path], list[Path]] | None = None


class Reader(ABC):
    """What turns inputs into tensors and a model's outputs into answers; saved beside a run's weights."""

    @abstractmethod
    def build(self, config: RunConfig) -> nn.Module:
        """The body with its head, with fresh weights.

        Raises:
            UserError: the scheme or a field of the shape is not allowed.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `Task.reader` reads back."""

    @abstractmethod
    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The model's answer to what a user typed.

        Args:
            model: in evaluation.
            given: a text, or the path of a file.
            config: of the run.
            beside: a second text, where the task takes two: a question's context, the other sentence.

        Raises:
            UserError: the input cannot be read.
        """


class Problem(ABC):
    """A task with its data loaded.

    Batches and evaluations depend on the config alone; nothing here has a state to save.

    Args:
        config: the run.
        reader: tokenizer, labels, and the body.
    """

    chance_name: ClassVar[str] = "unigram entropy"
    """What a model is called that knows how often each target comes and nothing else."""
    loss_name: ClassVar[str] = "nats per token"
    """The unit of the loss."""
    loss_unit: float = 1.0
    """What counts as a nat when a run is diagnosed: for a squared error, the error of the constant answer."""

    def __init__(self, config: RunConfig, reader: Reader) -> None:
        self.config, self.reader = config, reader

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256, equal exactly when the data are."""

    @property
    @abstractmethod
    def chance_loss(self) -> float:
        """The validation loss of a model that knows how often each target comes and nothing else."""

    @property
    def tokens_per_example(self) -> int:
        """Tokens, patches or pixels that a training example has."""
        return self.config.context

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a training step."""
        return self.tokens_per_example * self.config.batch_size

    @property
    def steps_per_epoch(self) -> float | None:
        """Steps that see as many examples as there are; None where a task does not say."""
        return None

    def build(self, config: RunConfig | None = None) -> nn.Module:
        """The body with its head, with fresh weights."""
        return self.reader.build(config or self.config)

    def calibrate_(self, model: nn.Module) -> None:
        """Let the scheme set what depends on data, from the first batch."""
        calibrate = getattr(model, "calibrate_", None)
        if calibrate is not None:
            calibrate(*self.given(self.train_batch(0)))

    def given(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What a calibration is given of a batch, which is what the model's forward takes; by default the first."""
        return batch[:1]

    @abstractmethod
    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """The tensors of a step, the first dimension of each the examples: a function of the config and the step."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """What training makes small, on a batch; a scalar with its graph."""

    def targets(self, batch: tuple[Tensor, ...]) -> int:
        """How many targets the loss of a batch, or of a part of it, is the mean over; only their proportions count."""
        return len(batch[0])

    @abstractmethod
    def evaluate(self, model: nn.Module) -> float:
        """The validation loss, without dropout and without what only training adds."""

    @abstractmethod
    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """The field's metrics, the first of them the one that counts.

        Args:
            model: in evaluation or in training; left as it was.
            split: of the data.
            limit: items at most; None = all.
            baselines: also compute what the trivial answers get.
        """

    def facts(self) -> dict[str, Any]:
        """What a run's folder shall say of the data: vocabulary, sizes."""
        return {}

    def report(self, model: nn.Module, folder: Path) -> list[Path]:
        """Write pictures or tables of what the model does, such as a sheet of samples; most tasks have none."""
        return []


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What is learned: a task's own choices, as plain data."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Fields of `RunConfig` that have another default for this task."""
    comparison: ClassVar[Mapping[str, Any]] = {}
    """Fields of `CompareConfig` that have another default for this task: small, minutes."""

    @abstractmethod
    def prepare(self, config: RunConfig, reader: Reader | None = None) -> Problem:
        """The task with its data loaded.

        Args:
            config: the run.
            reader: tokenizer and labels of an earlier run, for an evaluation or for continued training; None makes
                them from the training data.

        Raises:
            UserError: the data are missing, damaged, too few, or have labels that the reader does not know.
        """

    @abstractmethod
    def reader(self, folder: Path) -> Reader:
        """What a run was trained with, from its folder.

        Raises:
            UserError: a file is missing or damaged.
        """


class evaluating:  # noqa: N801  a context manager, like torch.no_grad
    """Within it, a model is in evaluation and nothing records gradients; afterwards it is as before."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.was_training = model, model.training
        self._no_grad = torch.no_grad()

    def __enter__(self) -> nn.Module:
        self._no_grad.__enter__()
        return self.model.eval()

    def __exit__(self, *error: Any) -> None:
        self.model.train(self.was_training)
        self._no_grad.__exit__(*error)


def check_shape(config: RunConfig, task: str, **needed: Any) -> None:
    """Refuse a field of the config that a task cannot take.

    Raises:
        UserError: with what the task needs.
    """
    for name, value in needed.items():
        came = getattr(config, name)
        if came != value:
            raise UserError(f"{name}={came} is not for {task}; leave {name}={value}.")
