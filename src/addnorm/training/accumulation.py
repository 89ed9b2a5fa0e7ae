"""The gradient of a batch, taken part by part where the whole does not fit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from addnorm.config import RunConfig
from addnorm.task import Problem

Batch = tuple[Tensor, ...]


class BatchGradient:
    """Adds up the gradient of a batch over `accumulate` parts of it.

        loss = sum_i (n_i / n) loss_i,   n_i the targets in part i, n those in the batch

    Weighted by targets and not by parts, because a task's loss is a mean over its real targets: a part that is mostly
    padding must not count as much as a full one. The sum is then the loss of the whole batch, and so is its gradient,
    to rounding; but a batch norm sees the parts, and dropout draws otherwise.

    Args:
        config: how many parts, and the precision.
        problem: loss, and how many targets a batch has.
    """

    def __init__(self, config: RunConfig, problem: Problem) -> None:
        self.config, self.problem = config, problem

    def backward(self, model: nn.Module, batch: Batch) -> float:
        """Add the batch's gradient to the parameters'; the loss."""
        total = 0.0
        for part, share in self._parts(batch):
            loss = self.of_part(model, part) * share
            loss.backward()
            total += loss.item()
        return total

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The same loss; with parts of a size that fit, for a forward without gradients."""
        return torch.stack([self.of_part(model, part) * share for part, share in self._parts(batch)]).sum()

    def autocast(self) -> torch.autocast:
        """The precision of the run's forwards."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def of_part(self, model: nn.Module, part: Batch) -> Tensor:
        """The loss of a part, with its graph."""
        with self.autocast():
            return self.problem.loss(model, part)

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """Each part with its share of the targets."""
        if self.config.accumulate == 1:
            yield batch, 1.0
            return
        targets = max(self.problem.targets(batch), 1)
        for part in _split(batch, self.config):
            yield part, self.problem.targets(part) / targets


def first_part(batch: Batch, config: RunConfig) -> Batch:
    """What goes through the model at once."""
    return next(_split(batch, config))


def _split(batch: Batch, config: RunConfig) -> Iterator[Batch]:
    return zip(*(torch.tensor_split(tensor, config.accumulate) for tensor in batch), strict=True)
