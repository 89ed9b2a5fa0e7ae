"""A text or a pair of texts in an encoder with a head: the tokenizer, what is asked for, and the model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm import schemes
from addnorm.checks import check_at_least
from addnorm.config import RunConfig
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError, unknown
from addnorm.models.classifier import POOLINGS, Pooling, TextClassifier
from addnorm.task import Prediction, Reader, Task, evaluating
from addnorm.tasks.text import targets
from addnorm.tasks.text.encoder_texts import NO_TOKEN, TextFrame, TokenRows, real
from addnorm.tasks.text.targets import Targets

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, kw_only=True)
class EncoderTask(Task):
    """What classification and entailment have in common.

    Args:
        pooling: what the head reads: the mean over the real tokens, or the first token.
        frozen: so many of the lowest layers, and the embedding, keep the weights that a run starts from; 0 trains all.
            Fresh weights are never frozen.
    """

    pooling: Pooling = "mean"
    frozen: int = 0

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise unknown("pooling", str(self.pooling), POOLINGS)
        check_at_least("frozen", self.frozen, 0)
        if not isinstance(self.frozen, int):
            raise UserError(f"frozen={self.frozen} is not allowed; use a whole number of layers.")

    @property
    @abstractmethod
    def apart(self) -> bool:
        """Whether two texts are encoded apart."""

    @abstractmethod
    def texts(self, record: Any) -> tuple[str, ...]:
        """The text or the texts of a record."""

    @abstractmethod
    def given(self, given: str, beside: str | None) -> tuple[str, ...]:
        """The same from what a user typed.

        Raises:
            UserError: a text is missing, empty, or one too many.
        """

    def reader(self, folder: Path) -> EncoderReader:
        """Tokenizer and targets that a run was trained with.

        Raises:
            UserError: a file is missing or damaged.
        """
        return EncoderReader(self, tokenizer.load(folder / tokenizer.FILE), targets.load(folder))


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """The encoded texts of a split.

    Args:
        rows: of one input an item, or of the two that are encoded apart.
    """

    rows: tuple[TokenRows, ...]

    def __len__(self) -> int:
        return len(self.rows[0])

    @property
    def lengths(self) -> Int[np.ndarray, "items"]:
        """Tokens of the longest input of each item: what a batch is padded to."""
        return np.max([row.lengths for row in self.rows], axis=0)

    @property
    def tokens(self) -> int:
        """Tokens of all inputs."""
        return sum(int(row.lengths.sum()) for row in self.rows)

    def batch(self, numbers: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Ids and segments of these items: `[batch, tokens]`, or `[batch, 2, tokens]`."""
        parts = [row.batch(numbers) for row in self.rows]
        if len(parts) == 1:
            return parts[0]
        longest = max(ids.shape[1] for ids, _ in parts)
        ids = [F.pad(ids, (0, longest - ids.shape[1]), value=self.rows[0].pad) for ids, _ in parts]
        segments = [F.pad(kinds, (0, longest - kinds.shape[1]), value=NO_TOKEN) for _, kinds in parts]
        return torch.stack(ids, dim=1), torch.stack(segments, dim=1)


class EncoderReader(Reader):
    """Texts to inputs, and an encoder's outputs to answers.

    Args:
        task: pooling, frozen layers, how pairs are read.
        tokenizer: of the run.
        targets: what is asked for.
    """

    def __init__(self, task: EncoderTask, tokenizer: Tokenizer, targets: Targets) -> None:
        self.task, self.tokenizer, self.targets = task, tokenizer, targets
        self.frame = TextFrame(tokenizer=tokenizer)

    def build(self, config: RunConfig) -> TextClassifier:
        """An encoder with a head, with fresh weights.

        Raises:
            UserError: more layers are frozen than there are, or the context is longer than the table of positions.
        """
        shape = config.model(self.tokenizer.vocab_size)
        if shape.position == "learned" and config.context > shape.max_tokens:
            raise UserError(
                f"context={config.context}, but the model has places for max_tokens={shape.max_tokens}; "
                "give a smaller context: longer texts are cut."
            )
        if self.task.frozen > config.num_layers:
            raise UserError(f"frozen={self.task.frozen}, but num_layers={config.num_layers}; freeze that many or less.")
        fresh = config.init in ("xavier", "normal")
        texts: Literal[1, 2] = 2 if self.task.apart else 1
        return TextClassifier(
            schemes.parse(config.scheme),
            outputs=self.targets.outputs,
            texts=texts,
            pooling=self.task.pooling,
            frozen=0 if fresh else self.task.frozen,
            seed=config.seed,
            calibration="later",
            **asdict(shape),
        )

    def save(self, folder: Path) -> None:
        """Write the tokenizer and the targets."""
        self.tokenizer.save(folder / tokenizer.FILE)
        self.targets.save(folder)

    def outputs(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Float[Tensor, "batch outputs"]:
        """What the model says of a batch's ids and segments."""
        ids, segments = batch[:2]
        keep, kinds = real(segments)
        return model(ids, keep, kinds)

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The label with all probabilities, or the score."""
        inputs = encoded(self.frame, self.task.apart, (self.task.given(given, beside),), config.context)
        with evaluating(model):
            return self.targets.answer(self.outputs(model, inputs.batch([0]))[0])


@lru_cache(maxsize=4)
def encoded(frame: TextFrame, apart: bool, texts: tuple[tuple[str, ...], ...], limit: int) -> Inputs:
    """Encode one text an item, or two; kept, for the runs of a comparison that follow each other in one process.

    Args:
        frame: of an input.
        apart: two texts are encoded apart.
        texts: of each item.
        limit: tokens of an input at most, special ones included.
    """
    if apart:
        sides = zip(*texts, strict=True)
        return Inputs(
            rows=tuple(TokenRows.of((frame.single(text, limit) for text in side), frame.pad) for side in sides)
        )
    inputs = (frame.single(item[0], limit) if len(item) == 1 else frame.pair(item[0], item[1], limit) for item in texts)
    return Inputs(rows=(TokenRows.of(inputs, frame.pad),))
