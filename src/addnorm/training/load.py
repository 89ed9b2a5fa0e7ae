"""Read the model of a run back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.consent import consented
from addnorm.errors import UserError
from addnorm.task import Reader
from addnorm.training.repair import check_trusted, warn_of_damage
from addnorm.training.run_folder import RunFolder
from addnorm.training.snapshot import load_weights_


class DivergedWarning(UserWarning):
    """A model is read of a run that has diverged."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A run's model, ready to answer.

    Args:
        model: in evaluation, with the weights of the best checkpoint.
        reader: its tokenizer and labels.
        config: of the run.
    """

    model: Any
    reader: Reader
    config: RunConfig


def load_run(folder: Path, *, task: str | None = None, scheme: str | None = None) -> Loaded:
    """The model of a run's best checkpoint (of another one if that is damaged), its reader and its config.

    Args:
        folder: of the run.
        task: the Python file of the run's task, if it has one of its own; without it no file is run.
        scheme: the same of its scheme; it must be what the run was trained with.

    Raises:
        UserError: the folder holds no run, or no checkpoint that can be read; its task or its scheme is a file that was
            not named, or the scheme's has changed.
    """
    run = RunFolder(folder)
    check_trusted(run)
    config = run.config()
    source = run.path / "config.json"
    config = replace(
        config,
        task=consented(config.task, task, source),  # without its SHA-256: a score may be mended after the training
        scheme=consented(config.scheme, scheme, source, "--scheme", run.code()),
    )
    found = run.checkpoints.load("best")
    diverged = run.has_diverged()
    if found is None:
        why = (
            "diverged before its first checkpoint; train another"
            if diverged
            else "has no checkpoint yet; train it first"
        )
        raise UserError(f"{run.path} {why}.")
    checkpoint, faults = found
    warn_of_damage(run, checkpoint, faults)
    if diverged:
        text = f"{run.path} diverged; this is its checkpoint of step {checkpoint.state['step']}, from before that."
        warnings.warn(text, DivergedWarning, stacklevel=3)
    reader = tasks.reader(config, run.path)
    model = reader.build(config)
    load_weights_(model, checkpoint.weights, checkpoint.state["ties"])
    return Loaded(model=model.eval(), reader=reader, config=config)


def load_model(folder: Path, *, task: str | None = None, scheme: str | None = None) -> tuple[Any, Any, RunConfig]:
    """Model, tokenizer and config of a language modeling run; `load_run` is for every task.

    Raises:
        UserError: the folder holds no run, no checkpoint that can be read, or a run of a task without a tokenizer.
    """
    loaded = load_run(folder, task=task, scheme=scheme)
    tokenizer = getattr(loaded.reader, "tokenizer", None)
    if tokenizer is None:
        raise UserError(f"{folder} is a run of {loaded.config.task}, which has no tokenizer; use addnorm predict.")
    return loaded.model, tokenizer, loaded.config
