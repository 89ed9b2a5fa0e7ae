"""Accuracy and macro-F1 of image classes, in percent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.task import Score

if TYPE_CHECKING:
    from jaxtyping import Int

TRIVIAL = "logistic regression on pixels"


def class_scores(
    guess: Int[Tensor, "items"], labels: Int[Tensor, "items"], trivial: Int[Tensor, "items"] | None, majority: int
) -> list[Score]:
    """Both figures, beside those of a trivial answer on the same items.

    Args:
        guess: the model's classes.
        labels: the true ones.
        trivial: the trivial answer's classes; None leaves it out.
        majority: the most frequent class of the training images.
    """
    note = "percent"
    if trivial is not None:
        note += f"; the majority class alone: {accuracy(torch.full_like(labels, majority), labels):.1f}"
    return [
        Score(
            name=name,
            value=metric(guess, labels),
            baseline=None if trivial is None else metric(trivial, labels),
            baseline_name="" if trivial is None else TRIVIAL,
            note=text,
            highest=100.0,
        )
        for name, metric, text in (("accuracy", accuracy, note), ("macro-F1", macro_f1, "percent"))
    ]


def accuracy(guess: Int[Tensor, "items"], labels: Int[Tensor, "items"]) -> float:
    """How many of 100 items are right.

    >>> accuracy(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))
    75.0
    """
    return 100 * (guess == labels).double().mean().item()


def macro_f1(guess: Int[Tensor, "items"], labels: Int[Tensor, "items"]) -> float:
    """The mean over classes of `2 TP / (2 TP + FP + FN)`, times 100; over the classes that are true or guessed.

    >>> round(macro_f1(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0])), 2)
    73.33
    """
    scores = []
    for label in torch.cat((guess, labels)).unique():
        guessed, true = guess == label, labels == label
        scores.append(2 * (guessed & true).sum().item() / (guessed.sum().item() + true.sum().item()))
    return 100 * sum(scores) / len(scores)
