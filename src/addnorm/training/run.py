"""Train one model in a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.consent import trusting
from addnorm.manifest import DamageWarning, listed
from addnorm.tracking.tracking import check_installed
from addnorm.training.arithmetic import enough_memory, flushed_denormals
from addnorm.training.description import describe
from addnorm.training.initial import initial
from addnorm.training.interruption import StopNow, Watch
from addnorm.training.progress import Progress, reporter
from addnorm.training.restore import restore
from addnorm.training.result import result_of
from addnorm.training.run_folder import RunFolder
from addnorm.training.seeding import seeded
from addnorm.training.trainer import Trainer


def train(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train a model and leave everything about it in a folder.

    Args:
        config: what is trained, on what, for how long.
        folder: where; `addnorm.training.run_folder` says what stands in it.
        resume: continue a run from its last checkpoint, or from the start if it has none; return the result of one
            that has ended.
        on_progress: called after every step.

    Returns:
        What stands in result.json.

    Raises:
        UserError: the folder exists and `resume` is False; it has another config or other data; the data are missing;
            the disk is full; a tracker is not installed.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.
    """
    check_installed(config.track or ())
    run = RunFolder(folder)
    with run.lock:  # before anything is read: what is found must stay so
        run.check(config, resume=resume)
        if (run.path / "result.json").exists():
            faults = run.faults()
            if not faults:
                with run.tracking(config):  # a tracker that was lost, or is new, gets the rows that there are
                    return run.read("result.json")
            text = f"{run.path} has ended, but {listed(faults)}; its end is taken anew from the last checkpoint."
            warnings.warn(text, DamageWarning, stacklevel=2)
        with (
            trusting(config.task, config.scheme),
            Watch() as watch,
            seeded(config.seed),
            flushed_denormals(),
            enough_memory(config),
        ):
            result = _train(config, run, watch, on_progress)
            if watch.signal_number is not None:  # it came while the last checkpoint was written
                raise watch.interrupted(run.path)
    return result


def _train(
    config: RunConfig, run: RunFolder, watch: Watch, on_progress: Callable[[Progress], None] | None
) -> dict[str, Any]:
    """From the start, or from where the last checkpoint was written, to the result."""
    trainer = _prepared(config, run, watch)
    with run.tracking(config) as tracking:
        run.watchers.append(tracking.take)
        status = trainer.train(reporter(on_progress))
        trainer.note("end", status=status)
        result = result_of(trainer, status)
        run.end(result)
    return result


def _prepared(config: RunConfig, run: RunFolder, watch: Watch) -> Trainer:
    """The trainer at the start, or where the last checkpoint was written."""
    try:
        with watch.breakable():
            problem = tasks.prepare(config)
            model, started = initial(problem)
            describe(run, problem, model, started)
            trainer = Trainer(config, problem, model, run, watch)
            restore(trainer)
            return trainer
    except StopNow:
        raise watch.interrupted(run.path) from None
