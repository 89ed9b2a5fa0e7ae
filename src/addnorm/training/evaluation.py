"""A run's model by its field's own metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from addnorm import tasks
from addnorm.errors import UserError
from addnorm.files import finite, write_json
from addnorm.task import Problem, Split
from addnorm.training.arithmetic import enough_memory
from addnorm.training.load import Loaded, load_run
from addnorm.training.run_folder import RunFolder


def evaluate_run(
    folder: Path,
    *,
    task: str | None = None,
    scheme: str | None = None,
    split: Split = "test",
    data: str | None = None,
    limit: int | None = None,
    baselines: bool = True,
    on_stage: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The scores of a run's best checkpoint; stored in the folder if the data are the run's own and none is left out.

    Data are the run's own if they hold the same, wherever they lie.

    Args:
        folder: of the run.
        task: the Python file of the run's task, if it has one: see `addnorm.consent`.
        scheme: the same of its scheme.
        split: of the data.
        data: other data than the run's.
        limit: items at most; None = all.
        baselines: also what trivial answers get.
        on_stage: is told what is being done.

    Returns:
        `run`, `task`, `scheme`, `split`, `data`, `limit`, `scores`, `wall_s`, `files`.

    Raises:
        UserError: the folder holds no run; the data are missing or do not fit the run.
    """
    tell = on_stage or _silent
    tell("loading the model")
    loaded = load_run(folder, task=task, scheme=scheme)
    config = loaded.config
    with enough_memory(config):
        tell("loading the data")
        problem, own = _problem(loaded, RunFolder(folder), data)
        tell("evaluating")
        began = time.perf_counter()
        scores = problem.scores(loaded.model, split, limit, baselines=baselines)
        wall_s = time.perf_counter() - began
        own = own and limit is None and baselines
        files = _reported(problem, loaded.model, RunFolder(folder)) if own else []
    result = finite(
        {
            "run": str(folder),
            "task": config.task,
            "scheme": config.scheme,
            "data": problem.config.data,
            "split": split,
            "limit": limit,
            "scores": [asdict(score) for score in scores],
            "wall_s": wall_s,
            "files": [str(path) for path in files],
        }
    )
    if own:
        _store(Path(folder) / f"scores-{split}.json", result)
    return result


def _problem(loaded: Loaded, run: RunFolder, data: str | None) -> tuple[Problem, bool]:
    """The task with the data that are asked for, and whether they are what the run was trained with.

    A path that begins nowhere is another one in another place, and a file may have changed since.
    """
    named = loaded.config.data if data is None else data
    elsewhere = f"name the data of {run.path} with --data"
    try:
        problem = tasks.prepare(replace(loaded.config, data=named), loaded.reader)
    except UserError as error:
        if data is not None:
            raise
        raise UserError(f"{error} If they lie elsewhere, {elsewhere}.") from error
    trained = run.read("run.json").get("data_sha256")  # runs from before it was noted have none
    if data is None and trained not in (None, problem.fingerprint):
        raise UserError(
            f"'{named}' is not what {run.path} was trained with: it has changed since, or stood in another folder; "
            f"{elsewhere}, even if it is '{named}': the scores are then of what is there now."
        )
    return problem, problem.fingerprint == trained or (data is None and trained is None)


def _reported(problem: Problem, model: Any, run: RunFolder) -> list[Path]:
    """What the task leaves in the folder; of the run's own files it may change some."""
    sound = not run.faults()
    files = problem.report(model, run.path)
    if sound:
        run.note_changed()
    return files


def _store(path: Path, result: dict[str, Any]) -> None:
    try:
        write_json(path, result)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); make the folder writable.") from error


def _silent(stage: str) -> None:
    """Nobody listens."""
