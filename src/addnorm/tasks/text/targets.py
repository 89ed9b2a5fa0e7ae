"""What an encoder's head is asked for: one of some labels, or a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.layers.cross_entropy import cross_entropy
from addnorm.task import Prediction
from addnorm.tasks.pictures.image_scores import accuracy, macro_f1
from addnorm.tasks.text.rank import pearson, spearman

if TYPE_CHECKING:
    from jaxtyping import Float

FILE = "targets.json"
SHOWN = 3
"""Labels that a prediction names."""


class Targets(ABC):
    """Truths as numbers, their loss, their metrics, and a model's outputs as an answer."""

    chance_name: ClassVar[str]
    loss_name: ClassVar[str]

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Numbers that a model gives out for an item."""

    @abstractmethod
    def numbers(self, records: Sequence[Any], origin: str) -> Tensor:
        """The truths, one a record.

        Raises:
            UserError: a record has a label that is not known; says which record of `origin`.
        """

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "items outputs"], truths: Tensor, smoothing: float = 0.0) -> Tensor:
        """The mean over items."""

    @abstractmethod
    def chance(self, train: Tensor, truths: Tensor) -> float:
        """The loss of who knows how the training truths are spread and does not look at the input."""

    @abstractmethod
    def metrics(self, outputs: Float[Tensor, "items outputs"], truths: Tensor) -> dict[str, float]:
        """The field's figures, by their names."""

    @abstractmethod
    def answer(self, outputs: Float[Tensor, "outputs"]) -> Prediction:
        """What the outputs for one item say."""

    @abstractmethod
    def constant(self, train: Tensor, items: int) -> Float[Tensor, "items outputs"] | None:
        """The outputs of the best answer that is always the same; None where it has no figure."""

    def save(self, folder: Path) -> None:
        """Write them beside a run's weights."""
        write_json(folder / FILE, self.as_json())

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """What `load` reads."""


@dataclass(frozen=True, kw_only=True)
class Labels(Targets):
    """One of some labels, by cross entropy: `loss = -mean ln p(label | input)`, in nats an item.

    Args:
        names: of the labels, in the order of the outputs.
    """

    names: tuple[str, ...]
    chance_name = "label frequencies"
    loss_name = "nats per item"

    @property
    def outputs(self) -> int:
        """One logit a label."""
        return len(self.names)

    def numbers(self, records: Sequence[Any], origin: str) -> Tensor:
        """The place of each record's label."""
        places = {name: place for place, name in enumerate(self.names)}
        for number, record in enumerate(records, start=1):
            if record.label not in places:
                raise UserError(
                    f"label '{record.label}' of {origin} record {number} was not in the training data; "
                    f"known: {', '.join(self.names[:20])}."
                )
        return torch.tensor([places[record.label] for record in records])

    def loss(self, outputs: Tensor, truths: Tensor, smoothing: float = 0.0) -> Tensor:
        """Nats an item."""
        return cross_entropy(outputs, truths, smoothing)

    def chance(self, train: Tensor, truths: Tensor) -> float:
        """Nats an item, of the training frequencies."""
        return float(cross_entropy(self._frequencies(train).log().expand(len(truths), -1), truths))

    def metrics(self, outputs: Tensor, truths: Tensor) -> dict[str, float]:
        """Accuracy and macro-F1, in per cent."""
        guess = outputs.argmax(-1)
        return {"accuracy": accuracy(guess, truths), "macro-F1": macro_f1(guess, truths)}

    def answer(self, outputs: Tensor) -> Prediction:
        """The likeliest labels, with their probabilities."""
        shares = dict(zip(self.names, outputs.double().softmax(-1).tolist(), strict=True))
        ranked = sorted(shares, key=lambda name: -shares[name])
        text = ", ".join(f"{name} ({shares[name]:.1%})" for name in ranked[:SHOWN])
        return Prediction(text=text, values={"label": ranked[0], "probabilities": shares})

    def constant(self, train: Tensor, items: int) -> Tensor:
        """The most frequent label."""
        return self._frequencies(train).expand(items, -1)

    def as_json(self) -> dict[str, Any]:
        """The names."""
        return {"labels": list(self.names)}

    def _frequencies(self, train: Tensor) -> Tensor:
        counts = torch.bincount(train, minlength=self.outputs) + 1.0
        return counts / counts.sum()


@dataclass(frozen=True, kw_only=True)
class Scale(Targets):
    """A score, by squared error in standard deviations of the training scores: `loss = mean (output - (s - m) / d)^2`.

    Args:
        mean: of the training scores.
        deviation: their standard deviation.
    """

    mean: float
    deviation: float
    chance_name = "mean score"
    loss_name = "squared error per variance"

    @property
    def outputs(self) -> int:
        """One."""
        return 1

    @classmethod
    def of(cls, scores: Sequence[float], origin: str) -> Scale:
        """The scale of the training scores.

        Raises:
            UserError: they are all the same.
        """
        if np.ptp(scores) == 0:
            raise UserError(f"every training score of {origin} is {scores[0]}; there is nothing to learn.")
        return cls(mean=float(np.mean(scores)), deviation=float(np.std(scores)))

    def numbers(self, records: Sequence[Any], origin: str) -> Tensor:
        """Scores in standard deviations from the mean."""
        return torch.tensor([(record.score - self.mean) / self.deviation for record in records], dtype=torch.float32)

    def loss(self, outputs: Tensor, truths: Tensor, smoothing: float = 0.0) -> Tensor:
        """Squared error; there is nothing to smooth."""
        return F.mse_loss(outputs[:, 0], truths.to(outputs.dtype))

    def chance(self, train: Tensor, truths: Tensor) -> float:
        """The error of the training mean: about 1."""
        return float((truths - train.mean()).square().mean())

    def metrics(self, outputs: Tensor, truths: Tensor) -> dict[str, float]:
        """Correlations of ranks and of values, times 100, as STS and SICK report them."""
        guess, truth = outputs[:, 0].double().numpy(), truths.double().numpy()
        return {"Spearman": 100 * spearman(guess, truth), "Pearson": 100 * pearson(guess, truth)}

    def answer(self, outputs: Tensor) -> Prediction:
        """The score, in the units of the training scores."""
        score = float(outputs[0]) * self.deviation + self.mean
        return Prediction(text=f"{score:.2f}", values={"score": score})

    def constant(self, train: Tensor, items: int) -> None:
        """None: what is always the same correlates with nothing."""

    def as_json(self) -> dict[str, Any]:
        """Mean and deviation."""
        return {"mean": self.mean, "deviation": self.deviation}


def load(folder: Path) -> Targets:
    """What `Targets.save` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        values: Mapping[str, Any] = read_object(folder / FILE)
        if "labels" in values:
            return Labels(names=tuple(map(str, values["labels"])))
        return Scale(mean=float(values["mean"]), deviation=float(values["deviation"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); name the folder of a run on texts.") from error
