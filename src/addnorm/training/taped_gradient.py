"""The gradient of a small net's batches by a tape: taken once, checked, then played step after step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from addnorm.kernels.call_tape import Tape
from addnorm.layers.watched import is_only
from addnorm.task import Problem
from addnorm.training.accumulation import Batch, BatchGradient
from addnorm.training.optimizer import Optimizer

MOST_BYTES = 128_000_000
"""Of a step's intermediate results, all of which a tape keeps."""
FIRST = 3
"""The step of a process that is taped: before, kernels are compiled and routes measured."""
EVERY = 100
"""Steps after which a step is computed both ways again."""


@dataclass(frozen=True)
class _Outcome:
    """All that a step's forward and backward leave."""

    loss: float
    gradient: list[Tensor]
    buffers: list[Tensor]
    random_state: Tensor

    def equals(self, other: _Outcome) -> bool:
        """To the last bit."""
        mine = [*self.gradient, *self.buffers, self.random_state]
        theirs = [*other.gradient, *other.buffers, other.random_state]
        return self.loss == other.loss and all(map(torch.equal, mine, theirs))


class TapedGradient:
    """As `BatchGradient`, by a tape where that gives the same bits.

    A tape is played only where everything that computes is of this library, so that nothing but numbers changes from
    step to step; where the batch is taken whole; and where a step twice, on two batches, has left by the tape what it
    left without: loss, gradient, buffers and random state. That is looked at again every `EVERY` steps; a tape that
    once fails is never played again.

    Args:
        gradient: what computes without a tape.
        problem: the task.
        model: what is trained.
        optimizer: where gradients go.
    """

    def __init__(self, gradient: BatchGradient, problem: Problem, model: nn.Module, optimizer: Optimizer) -> None:
        self.gradient, self.problem, self.model, self.optimizer = gradient, problem, model, optimizer
        self._modules = list(model.modules())
        self.why_not = _why_not(gradient, problem, model)
        """Why no tape is played; empty as long as one is, or may be."""
        self.steps = 0
        self.checks = 0
        self._tape: Tape | None = None
        self._inputs: Batch = ()
        self._loss = torch.zeros(())

    def backward(self, batch: Batch, *, watched: bool = False) -> float:
        """Leave the batch's gradient in the optimizer's buffers; the loss.

        Args:
            batch: of a step.
            watched: somebody has hung hooks into the model: it must run.
        """
        self.steps += 1
        if self.why_not or watched or self.steps < FIRST or self._is_watched():
            return self.gradient.backward(self.model, batch)
        if self._tape is None:
            return self._take(batch)
        if [(one.shape, one.dtype) for one in batch] != [(one.shape, one.dtype) for one in self._inputs]:
            return self.gradient.backward(self.model, batch)
        if self.checks < 2 or self.steps % EVERY == 0:
            return self._checked(batch)
        return self._play(batch)

    def _is_watched(self) -> bool:
        """Whether somebody has hung a hook in, or put another method in the place of one."""
        return "loss" in vars(self.problem) or not all(is_only(module, type(module)) for module in self._modules)

    def _take(self, batch: Batch) -> float:
        tape, inputs = Tape(MOST_BYTES), tuple(one.clone() for one in batch)
        before = self._state()
        with tape.taking():
            loss = self.gradient.of_part(self.model, inputs)
            loss.backward()
            self.optimizer.gather()
        if tape.spoilt:
            self.why_not = tape.spoilt
            return loss.item()
        self._tape, self._inputs, self._loss = tape, inputs, loss.detach()
        self._compare(batch, before, self._outcome(loss.item()))
        return loss.item()

    def _checked(self, batch: Batch) -> float:
        before = self._state()
        loss = self.gradient.backward(self.model, batch)
        self.optimizer.gather()
        self._compare(batch, before, self._outcome(loss))
        return loss

    def _compare(self, batch: Batch, before: tuple[list[Tensor], Tensor], outcome: _Outcome) -> None:
        """Play the same step from the same state; what the step has left stays, whatever the tape does."""
        self._restore(*before)
        loss = self._play(batch)
        same = outcome.equals(self._outcome(loss))
        self._restore(outcome.buffers, outcome.random_state)
        for buffer, gradient in zip(self.optimizer.buffers.values(), outcome.gradient, strict=True):
            buffer.gradient.copy_(gradient)
        if not math.isfinite(outcome.loss):
            return  # what is not a number equals nothing: another step tells
        self.checks += 1
        if not same:
            self.why_not, self._tape = "a step by the tape had other bits", None

    def _play(self, batch: Batch) -> float:
        assert self._tape is not None
        for room, one in zip(self._inputs, batch, strict=True):
            room.copy_(one)
        self._tape.play()
        self.optimizer.show()
        return self._loss.item()

    def _outcome(self, loss: float) -> _Outcome:
        gradient = [buffer.gradient.clone() for buffer in self.optimizer.buffers.values()]
        return _Outcome(loss, gradient, *self._state())

    def _state(self) -> tuple[list[Tensor], Tensor]:
        return [one.clone() for one in self.model.buffers()], torch.get_rng_state()

    @torch.no_grad()
    def _restore(self, buffers: list[Tensor], random_state: Tensor) -> None:
        for own, one in zip(self.model.buffers(), buffers, strict=True):
            own.copy_(one)
        torch.set_rng_state(random_state)


def _why_not(gradient: BatchGradient, problem: Problem, model: nn.Module) -> str:
    if gradient.config.accumulate > 1:
        return "the batch is taken in parts"
    foreign = [type(part) for part in (problem, *model.modules()) if not _is_ours(type(part))]
    return f"{foreign[0].__name__} may do another thing at every step" if foreign else ""


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("addnorm", "torch")
