"""What is learned: data, batches, loss, scores; one task per file, and the folder is the registry.

A specification is a name with optional fields, as for schemes: `classification`, `image-generation(method=diffusion)`.
A task of your own: a Python file (`--task my_task.py`), or an entry point of the group `addnorm.tasks` in a package.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.config import RunConfig
from addnorm.errors import UserError, unknown
from addnorm.specification import literal, named, parts

if TYPE_CHECKING:
    from types import ModuleType

    from addnorm.task import Problem, Reader, Task

GROUP = "addnorm.tasks"
"""The entry points by which a package brings tasks of its own."""
BUDGETS = ("tokens", "seconds", "steps")
"""Fields that say how long to train; one that is given pushes a task's default out."""


@cache
def names() -> tuple[str, ...]:
    """The names of all tasks, in alphabetical order: the catalogue's, then those of installed packages.

    >>> "language-modeling" in names()
    True
    """
    return (*_own(), *sorted(set(_foreign()) - set(_own())))


@cache
def get(name: str) -> type[Task]:
    """The dataclass of a task: of the catalogue, of an installed package, or of a Python file.

    Raises:
        UserError: no task has that name; the file or the package is not as it must be.
    """
    if name.endswith(".py"):
        return _only_task(_module_of(Path(name).expanduser()), name)
    if name in _own():
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        return _only_task(module, name)
    if name in _foreign():
        return _loaded(_foreign()[name])
    raise unknown("task", name, [*names(), "a Python file that defines one"])


def parse(specification: str) -> Task:
    """A task from its text: a name or a Python file, with fields in parentheses if need be.

    Raises:
        UserError: the name, a field or a value is not allowed.
    """
    name, given = parts("task", specification)
    task = get(name)
    allowed = [field.name for field in fields(task) if field.init]
    values = named("task", specification, given, allowed, literal)
    try:
        return task(**values)
    except TypeError as error:
        raise UserError(f"task '{specification}': {error}.") from error


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


@cache
def _own() -> tuple[str, ...]:
    files = Path(__file__).parent.glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


@cache
def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: EntryPoint) -> type[Task]:
    from addnorm.task import Task

    try:
        found = point.load()
    except Exception as error:  # whatever another package's import raises
        text = f"task '{point.name}' of {point.value} cannot be imported ({error}); mend the package."
        raise UserError(text) from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(f"task '{point.name}': {point.value} is no addnorm.tasks.Task; name a subclass of it.")
    return found


def _module_of(path: Path) -> ModuleType:
    """The module of a user's file, imported once for each content."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a Python file that defines a Task.") from None
    name = f"addnorm_task_{hashlib.sha256(bytes(path.resolve()) + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        del sys.modules[name]
        raise UserError(f"{path} cannot be imported ({type(error).__name__}: {error}); mend the file.") from error
    return module


def _only_task(module: ModuleType, name: str) -> type[Task]:
    from addnorm.task import Task

    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Task) and item.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise UserError(f"{name} defines {len(own)} tasks; define exactly one subclass of addnorm.tasks.Task in it.")
    return own[0]


def __getattr__(name: str) -> Any:
    """`Task`, `Problem`, `Reader`, `Score`, `Prediction`, loaded when they are asked for: they import torch."""
    if name in ("Task", "Problem", "Reader", "Score", "Prediction", "evaluating"):
        return getattr(importlib.import_module("addnorm.task"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
