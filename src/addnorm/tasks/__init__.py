"""What is learned: data, batches, loss, scores; one task per file, and the folder is the registry.

A specification is a name with optional fields, as for schemes: `classification`, `image-generation(method=diffusion)`.
A task of your own: `./my_task.py`, `./my_task.py:Mine(labels=4)`, or an entry point of the group `addnorm.tasks` in a
package.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.config import RunConfig
from addnorm.registry import Registry
from addnorm.specification import parts

if TYPE_CHECKING:
    from addnorm.task import Problem, Reader, Task

REGISTRY: Registry[Task] = Registry("task", package=__name__, base="addnorm.tasks:Task", catalogue="addnorm tasks")
names, get, name_of, parse, format = (
    REGISTRY.names,
    REGISTRY.get,
    REGISTRY.name_of,
    REGISTRY.parse,
    REGISTRY.format,
)
BUDGETS = ("tokens", "seconds", "steps")
"""Fields that say how long to train; one that is given pushes a task's default out."""


def prepare(config: RunConfig, reader: Reader | None = None) -> Problem:
    """The task that the config names, with its data loaded.

    Args:
        config: the run.
        reader: tokenizer and labels of an earlier run; None makes them from the training data.

    Raises:
        UserError: the task is unknown, or its data are missing or too short.
    """
    return parse(config.task).prepare(config, reader)


def reader(config: RunConfig, folder: Path) -> Reader:
    """What a run of the config was trained with: tokenizer, labels, from its folder.

    Raises:
        UserError: a file is missing or damaged.
    """
    return parse(config.task).reader(folder)


def config(task: str, **given: Any) -> RunConfig:
    """A `RunConfig` with a task's own defaults.

    Args:
        task: its specification.
        given: fields of `RunConfig` that shall be otherwise.

    Raises:
        UserError: the task or a field's value is not allowed.

    >>> config("language-modeling", context=128).context
    128
    """
    return RunConfig(**with_defaults({"task": task, **given}, get(parts("task", task)[0]).defaults))


def with_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values over the defaults; a budget that is given leaves no other budget standing.

    >>> with_defaults({"tokens": 100}, {"steps": 50, "context": 8})
    {'context': 8, 'tokens': 100}
    """
    budgeted = any(name in values for name in BUDGETS)
    kept = {name: value for name, value in defaults.items() if not (budgeted and name in BUDGETS)}
    return {**kept, **values}


def __getattr__(name: str) -> Any:
    """`Task`, `Problem`, `Reader`, `Score`, `Prediction`, loaded when they are asked for: they import torch."""
    if name in ("Task", "Problem", "Reader", "Score", "Prediction", "evaluating"):
        return getattr(importlib.import_module("addnorm.task"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
