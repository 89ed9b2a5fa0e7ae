"""A run's model without some of its layers, as a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from addnorm import tasks
from addnorm.config import INIT_RULES, RunConfig
from addnorm.diagnosis.layer_influence import Pruned, layer_influences, least
from addnorm.errors import UserError
from addnorm.stack import Stack
from addnorm.task import Problem
from addnorm.training.arithmetic import enough_memory
from addnorm.training.description import describe
from addnorm.training.interruption import Watch
from addnorm.training.load import load_run
from addnorm.training.run_folder import RunFolder
from addnorm.training.trainer import Trainer

BATCHES = 4
"""Training batches that the influence is the mean over."""


def prune_run(folder: Path, layers: int, out: Path, *, task: str | None = None, scheme: str | None = None) -> Pruned:
    """Drop the layers of least influence and write what is left as a run that can be evaluated, or trained further.

    Its config is the run's with fewer layers; it stands before its first step, so that resuming it trains it for the
    run's budget from the pruned weights.

    Args:
        folder: of the run.
        layers: how many are dropped.
        out: a new folder.
        task: the Python file of the run's task, if it has one: see `addnorm.consent`.
        scheme: the same of its scheme.

    Raises:
        UserError: the folder holds no run, `out` exists, no layer would be left, or the scheme's weights are of the
            depth.
    """
    loaded = load_run(folder, task=task, scheme=scheme)
    if out.exists():
        raise UserError(f"{out} exists already; name another folder.")
    with enough_memory(loaded.config):
        problem = tasks.prepare(loaded.config, loaded.reader)
        stack = _only_stack(loaded.model)
        influences = _influences(problem, loaded.model, stack)
        dropped = least(influences, layers)
        smaller = _smaller(loaded.config, layers)
        pruned = problem.build(smaller)
        fill_(pruned, loaded.model, dropped)
        before = problem.evaluate(loaded.model)
        after = _write(out, tasks.prepare(smaller, loaded.reader), pruned)
    return Pruned(
        influences=influences,
        dropped=dropped,
        before=before,
        after=after,
        parameters=(_count(loaded.model), _count(pruned)),
        loss_name=problem.loss_name,
        out=out,
    )


def fill_(pruned: nn.Module, whole: nn.Module, dropped: Sequence[int]) -> None:
    """Give a model of fewer layers the weights of those that stay.

    Raises:
        UserError: a weight is of another shape in a shallower model.
    """
    name, stack = next((name, module) for name, module in whole.named_modules() if isinstance(module, Stack))
    kept = [i for i, site in enumerate(stack.sites) if site.layer not in dropped]
    prefixes = {f"{name}.blocks.{new}.": f"{name}.blocks.{old}." for new, old in enumerate(kept)}
    theirs, state = whole.state_dict(), dict[str, Tensor]()
    for own, tensor in pruned.state_dict().items():
        new = next((prefix for prefix in prefixes if own.startswith(prefix)), None)
        source = theirs.get(own if new is None else prefixes[new] + own.removeprefix(new))
        if source is None or source.shape != tensor.shape:
            raise UserError(
                f"{own} has other weights where there are fewer layers, so its scheme cannot be pruned; "
                "train a shallower model, or take a scheme whose connections do not know the depth."
            )
        state[own] = source
    pruned.load_state_dict(state)


def _only_stack(model: nn.Module) -> Stack:
    found = [module for module in model.modules() if isinstance(module, Stack)]
    if len(found) != 1:
        raise UserError(f"the model has {len(found)} stacks; prune takes a run with one, an encoder or a decoder.")
    return found[0]


def _influences(problem: Problem, model: nn.Module, stack: Stack) -> list[float]:
    first = [block for block, site in zip(stack.blocks, stack.sites, strict=True) if site.opens_layer]
    runs: list[Callable[[], Tensor]] = [
        partial(problem.loss, model, problem.train_batch(step)) for step in range(BATCHES)
    ]
    return layer_influences(model, first, stack.exit, runs, inside=False)


def _smaller(config: RunConfig, layers: int) -> RunConfig:
    """A start that the run has had brought its depth with it."""
    init = config.init if config.init in INIT_RULES else "normal"
    return replace(config, num_layers=config.num_layers - layers, init=init)


def _write(out: Path, problem: Problem, model: nn.Module) -> float:
    """The folder of a run before its first step; the loss of what stands there."""
    run = RunFolder(out)
    with run.lock, torch.random.fork_rng():
        describe(run, problem, model, None)
        trainer = Trainer(problem.config, problem, model, run, Watch())
        loss = problem.evaluate(model)
        trainer.at = trainer.at.evaluated(0, loss)
        trainer.note("validation", loss=loss)
        trainer.save()
    return loss


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
