"""What the command does, as functions: train a model, compare schemes, load what a run has learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

from addnorm import schemes
from addnorm.choices import takes_fields_of
from addnorm.cli.folders import folder
from addnorm.cli.task_defaults import of_task
from addnorm.config import RunConfig
from addnorm.consent import trusting
from addnorm.errors import unknown
from addnorm.keywords import CompareKeywords, RunKeywords
from addnorm.reports.report import write_reports
from addnorm.residual import Scheme
from addnorm.studies import compare as comparison
from addnorm.studies.runner import StudyProgress
from addnorm.studies.spec import CompareConfig
from addnorm.training import run
from addnorm.training.progress import Progress

C = TypeVar("C", RunConfig, CompareConfig)


@takes_fields_of(RunConfig)
def train(
    out: str | Path | None = None,
    *,
    epochs: float | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    **choices: Unpack[RunKeywords],
) -> dict[str, Any]:
    """Train one model and leave everything about it in a folder, as `addnorm train` does.

    Args:
        out: the folder, which must be new; by default `runs/train-DATE-TIME`, with `resume` the newest of them.
        epochs: budget in passes over the training data, instead of tokens, steps or seconds.
        resume: continue a run that was stopped, bit for bit; needs the choices that it was begun with.
        on_progress: called after every step.
        choices: the fields of `addnorm.config.RunConfig`: scheme, task, data, shape, budget, optimizer. A task brings
            defaults of its own. A scheme may be an object too; task and scheme may be Python files, which are then run.

    Returns:
        What stands in the folder's result.json: `status`, `validation_loss` in nats a target, `scores`, `tokens`,
        `tokens_per_s`, `wall_s`, `diagnosis` ...; and `folder`.

    Raises:
        UserError: a choice is unknown or not allowed, the folder exists, the data are missing.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.

    Examples:
        >>> import addnorm, tempfile
        >>> result = addnorm.train(tempfile.mkdtemp() + "/run", scheme="mhc", d_model=16, steps=2, evaluations=1)
        >>> result["status"]
        'finished'
    """
    path = folder("train", None if out is None else Path(out), resume)
    result = run.train(_choices(RunConfig, "defaults", choices, epochs), path, resume=resume, on_progress=on_progress)
    return {**result, "folder": path}


@takes_fields_of(CompareConfig)
def compare(
    out: str | Path | None = None,
    *,
    epochs: float | None = None,
    resume: bool = False,
    on_progress: Callable[[StudyProgress], None] | None = None,
    **choices: Unpack[CompareKeywords],
) -> dict[str, Any]:
    """Train schemes side by side from the same sublayers on the same batches, and write report.html, as the command.

    Args:
        out: the folder, which must be new; by default `runs/compare-DATE-TIME`, with `resume` the newest of them.
        epochs: budget in passes over the training data, instead of tokens, steps or seconds.
        resume: continue a comparison that was stopped; needs the choices that it was begun with.
        on_progress: called whenever something happens.
        choices: the fields of `addnorm.studies.spec.CompareConfig`: schemes, layers, seeds, budgets, learning rates;
            and of the recipe that all runs share. A list may stand for a tuple.

    Returns:
        What stands in the folder's results.json: `arms` with losses in nats a target, intervals, verdicts, costs ...;
        and `folder`.

    Raises:
        UserError: a choice is unknown or not allowed, the folder exists, the data are missing.
        Interrupted: Ctrl-C or SIGTERM; every run has saved.
    """
    path = folder("compare", None if out is None else Path(out), resume)
    spec = _choices(CompareConfig, "comparison", choices, epochs)
    results = comparison.compare(spec, path, resume=resume, progress=on_progress)
    write_reports(results, path)
    return {**results, "folder": path}


def _choices(
    kind: type[C], defaults: Literal["defaults", "comparison"], choices: Mapping[str, Any], epochs: float | None
) -> C:
    """The dataclass, with the defaults of the task."""
    allowed = [item.name for item in fields(kind)]
    for name in choices:
        if name not in allowed:
            raise unknown("choice", name, allowed)
    given = {name: _stored(value) for name, value in choices.items()}
    code = [given.get(name, ()) for name in ("task", "scheme", "schemes", "baseline")]
    with trusting(*(text for each in code for text in ((each,) if isinstance(each, str) else each))):
        return kind(**of_task(defaults)(given, {"epochs": epochs}))


def _stored(value: Any) -> Any:
    """As a config holds it: a scheme by its text, a list as a tuple."""
    if isinstance(value, list | tuple):
        return tuple(map(_stored, value))
    return schemes.format(value) if isinstance(value, Scheme) else value
