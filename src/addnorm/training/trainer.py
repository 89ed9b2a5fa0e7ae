"""The training loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from addnorm.config import RunConfig
from addnorm.probes.nonfinite import origin
from addnorm.probes.signal import SignalFlow, stack_of
from addnorm.task import Problem
from addnorm.training.accumulation import BatchGradient
from addnorm.training.budget import Budget, shares
from addnorm.training.checkpoint import Checkpoint
from addnorm.training.clock import Clock
from addnorm.training.counters import Counters
from addnorm.training.ema import AveragedWeights
from addnorm.training.interruption import StopNow, Watch
from addnorm.training.optimizer import Optimizer
from addnorm.training.rollback import SpikeGuard
from addnorm.training.run_folder import RunFolder
from addnorm.training.schedule import factor
from addnorm.training.snapshot import load_weights_, weights_of
from addnorm.training.taped_gradient import TapedGradient

TRAIN_ROWS = 200
"""Rows of the training loss in a run, at most; a synced row takes 0.8 ms."""
RANDOM_STATE = "random_state"


class NotFiniteWarning(UserWarning):
    """A checkpoint is left out, because its weights are not finite."""


class Trainer:
    """One run: steps, and what falls due between them.

    Everything that a step depends on is in the model, the optimizer, the averaged weights, the spike guard, torch's
    random state and `Counters`; a checkpoint holds these six, so that a resumed run takes the same steps bit for bit.

    Args:
        config: the run.
        task: batches and loss.
        model: what is trained, in place.
        run: where rows and checkpoints go.
        watch: notes Ctrl-C and SIGTERM.
    """

    def __init__(self, config: RunConfig, task: Problem, model: nn.Module, run: RunFolder, watch: Watch) -> None:
        self.config, self.task, self.model, self.run, self.watch = config, task, model, run, watch
        self.optimizer = Optimizer(model, config)
        self.average = AveragedWeights(self.optimizer, config.ema)
        self.gradient = BatchGradient(config, task)
        self.taped = TapedGradient(self.gradient, task, model, self.optimizer)
        self.guard = SpikeGuard(config.spike, self._live)
        self.budget = Budget.of(config, task.tokens_per_step)
        self.clock = Clock()
        self.at = Counters()
        self.stack = stack_of(model)
        state = model.state_dict(keep_vars=True)  # once: at every snapshot it would be ten times the copying
        self._buffers = [name for name, own in state.items() if not isinstance(own, nn.Parameter)]
        self._last_step_s = 0.0

    @property
    def progress(self) -> float:
        """The share of the budget that is used up."""
        return self.budget.progress(self.at.step, self.clock.wall_s)

    @property
    def tokens(self) -> int:
        """Training tokens seen."""
        return self.at.step * self.budget.tokens_per_step

    def train(self, on_step: Callable[[Trainer], None]) -> str:
        """Take steps until the budget is used up, the validation loss no longer falls, or the run has diverged.

        Returns:
            "finished", "stopped early" or "diverged".

        Raises:
            Interrupted: a signal came; a checkpoint is written.
        """
        self.model.train()
        try:
            while True:
                over = self._status()
                if over != "stopped early":  # else it was resumed after its last evaluation
                    self._between_steps(1.0 if over else self.progress)
                if status := self._status():
                    self._save_if_due(1.0)
                    return status
                self._step()
                on_step(self)
                if self.watch.signal_number is not None:
                    raise StopNow
        except StopNow:
            self.save()
            self.note("end", status="interrupted")
            raise self.watch.interrupted(self.run.path) from None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue where a checkpoint was written."""
        state = checkpoint.state
        load_weights_(self.model, checkpoint.weights, state["ties"])
        self.optimizer.load_(checkpoint.optimizer)
        self.average.load_(checkpoint.optimizer)
        if self.config.spike:
            self.guard.load_(checkpoint.optimizer, state["spikes"])
        torch.set_rng_state(checkpoint.optimizer[RANDOM_STATE])
        self.at = Counters.from_json(state["counters"])
        self.clock = Clock(state["wall_s"], state["cpu_s"])

    def save(self) -> None:
        """Write a checkpoint; it is the best one if it was just evaluated and no earlier one was better.

        Weights or moments that are not finite are not written: what is on the disk can be gone on from.

        Raises:
            UserError: the disk is full; older checkpoints are untouched.
        """
        before = self.at
        best = self.at.validation_step == self.at.step and self.at.validation_loss < self.at.best_loss
        if best:
            self.at = replace(self.at, best_loss=self.at.validation_loss)
        with self.averaged():
            weights, ties = weights_of(self.model)
        state: dict[str, Any] = {"step": self.at.step, "wall_s": self.clock.wall_s, "cpu_s": self.clock.cpu_s}
        state |= {"counters": self.at.as_json(), "ties": ties, "spikes": self.guard.as_json()}
        state["metrics"] = self.run.metrics.mark()
        optimizer = {RANDOM_STATE: torch.get_rng_state(), **self.optimizer.tensors()}
        optimizer |= self.average.tensors() | self.guard.tensors()
        bad = [name for name, tensor in {**optimizer, **weights}.items() if not _is_finite(tensor)]
        if bad:  # the checkpoint before is worth more than one that nothing can go on from
            text = f"step {self.at.step} is not saved: {bad[0]} is not finite; the checkpoint before it stays."
            warnings.warn(text, NotFiniteWarning, stacklevel=3)
            self.at = before
            return
        self.run.checkpoints.save(Checkpoint(weights=weights, optimizer=optimizer, state=state), best=best)

    def note(self, event: str, **values: Any) -> None:
        """Append a row to the metrics."""
        row = {"event": event, "step": self.at.step, "tokens": self.tokens}
        self.run.append(row | {"wall_s": self.clock.wall_s, "cpu_s": self.clock.cpu_s} | values)

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the model has the weights that are evaluated and saved."""
        return self.average.in_place(self.model)

    def _status(self) -> str:
        """How the run has ended, or an empty text."""
        if self.at.bad_in_a_row >= self.config.max_bad_steps or self.at.rollbacks > self.config.rollbacks:
            return "diverged"
        if self.progress >= 1:
            return "finished"
        return "stopped early" if 0 < self.config.patience <= self.at.without_gain else ""

    def _between_steps(self, progress: float) -> None:
        """What is due; if a signal leaves it early, a resumed run does it again."""
        evaluations = shares(progress, self.config.evaluations)
        lower = False
        if evaluations > self.at.evaluations:
            with self.averaged(), self.watch.breakable(), self.gradient.autocast():
                loss = self.task.evaluate(self.model)
            lower = loss < self.at.lowest_loss
            self.at = self.at.evaluated(evaluations, loss)
            self.note("validation", loss=loss)
        # Who stops early wants the lowest, not the lowest of those that happened to be saved.
        self._save_if_due(progress, at_once=lower and self.config.patience > 0)

    def _save_if_due(self, progress: float, at_once: bool = False) -> None:
        saves = shares(progress, self.config.saves)
        if at_once or saves > self.at.saves:
            self.at = replace(self.at, saves=saves)
            self.save()

    def _step(self) -> None:
        """One step, its signal flow measured if that is due."""
        before, began_s = self.progress, self.clock.wall_s
        flow, buffers = self._due_flow(), self._copied_buffers()
        with self.clock.running(), flow or nullcontext():
            batch = self.task.train_batch(self.at.step)
            loss = self.taped.backward(batch, watched=flow is not None)
            norm = self.optimizer.gradient_norm().item()
        measured = flow.forward_and_backward() if flow else {}
        good = math.isfinite(loss) and math.isfinite(norm)
        spike = good and loss > self.guard.limit()
        layer = "" if good else origin(self.model, batch, self.gradient.loss)
        if not good:
            self._put_back_(buffers)
        learning_rate = self._update(loss, norm if good and not spike else None)
        if flow:
            self.note("signal", **measured, update_ratio=flow.update_ratio())
        bad_in_a_row = 0 if good else self.at.bad_in_a_row + 1
        self.at = replace(self.at, step=self.at.step + 1, loss=loss, bad_in_a_row=bad_in_a_row)
        self._last_step_s = self.clock.wall_s - began_s
        if not good:
            self.note("skipped", grad_norm=norm, layer=layer)
        elif not spike and shares(self.progress, TRAIN_ROWS) > shares(before, TRAIN_ROWS):
            self.note("train", loss=loss, grad_norm=norm, learning_rate=learning_rate)
        if spike or (self.guard.can_go_back and bad_in_a_row >= self.config.max_bad_steps):
            self._go_back(loss)

    def _update(self, loss: float, norm: float | None) -> float:
        """Clip a gradient of that norm and step, unless it is None; clear the gradient. The learning rate."""
        with self.clock.running():
            progress = self.budget.progress(self.at.step + 1, self.clock.wall_s)
            share = factor(progress, self.config.warm_up, self.config.schedule, self.config.decay)
            if norm is not None:
                self.guard.passed(self.at.step, loss)
                if 0 < self.config.clip_norm < norm:
                    self.optimizer.scale_gradient(self.config.clip_norm / norm)
                self.optimizer.step(self.config.learning_rate * share)
                getattr(self.model, "after_step_", _nothing)()
                self.average.update()
            self.optimizer.clear_gradient()
        return self.config.learning_rate * share

    def _go_back(self, loss: float) -> None:
        """Put the last snapshot in place; the batches since then are not seen again."""
        self.guard.go_back_()
        self.at = replace(self.at, bad_in_a_row=0, rollbacks=self.at.rollbacks + 1)
        self.note("rollback", loss=loss, limit=self.guard.limit(), to_step=self.guard.snapshot_step)

    def _live(self) -> dict[str, Tensor]:
        """All tensors that a step changes, by name."""
        tensors = self.optimizer.live()
        tensors |= {f"average/{name}": average for name, average in self.average.values.items()}
        return tensors | {f"model/{name}": self.model.get_buffer(name) for name in self._buffers}

    def _copied_buffers(self) -> dict[str, Tensor]:
        """The buffers before a step: its forward changes running statistics before its gradient is known to be bad."""
        return {name: self.model.get_buffer(name).clone() for name in self._buffers}

    @torch.no_grad()
    def _put_back_(self, buffers: dict[str, Tensor]) -> None:
        """Let a skipped step have changed nothing."""
        for name, before in buffers.items():
            self.model.get_buffer(name).copy_(before)

    def _due_flow(self) -> SignalFlow | None:
        """The probe, at the first step and in the step that completes a share of the budget."""
        progress = self.budget.progress(self.at.step + 1, self.clock.wall_s + self._last_step_s)
        signals = shares(progress, self.config.signals) if self.at.step else 0
        if self.stack is None or signals <= self.at.signals:
            return None
        self.at = replace(self.at, signals=signals)
        return SignalFlow(self.stack)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _nothing() -> None:
    """For models whose weights no scheme constrains."""
