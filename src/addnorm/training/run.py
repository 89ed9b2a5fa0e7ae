"""Train one model in a run folder, and read a run's model back."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from addnorm import __version__, tasks
from addnorm.config import RunConfig
from addnorm.consent import code_of, consented, trusting
from addnorm.errors import UserError
from addnorm.interop.init_sources import identity_of
from addnorm.interop.start import Started
from addnorm.manifest import DamageWarning, listed
from addnorm.probes.trainability import Thresholds, assess
from addnorm.task import Problem, Reader
from addnorm.training import environment
from addnorm.training.arithmetic import enough_memory, flushed_denormals
from addnorm.training.checkpoint import POINTERS, Checkpoint, CheckpointWarning
from addnorm.training.cost import cost
from addnorm.training.counters import Progress
from addnorm.training.initial import initial
from addnorm.training.interruption import StopNow, Watch
from addnorm.training.repair import check_trusted, mend
from addnorm.training.run_folder import RunFolder, fingerprint
from addnorm.training.seeding import seeded
from addnorm.training.snapshot import load_weights_
from addnorm.training.trainer import Trainer

LAST_ROWS = 10
"""Rows of the training loss that `train_loss` is the mean of."""


class StartWarning(UserWarning):
    """What to know of the weights that a run starts from."""


class DivergedWarning(UserWarning):
    """A model is read of a run that has diverged."""


class ResumeWarning(UserWarning):
    """A run goes on in another environment than it was started in."""


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
            the disk is full.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.
    """
    run = RunFolder(folder)
    with run.lock:  # before anything is read: what is found must stay so
        run.check(config, resume=resume)
        if (run.path / "result.json").exists():
            faults = run.faults()
            if not faults:
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
    _warn(run, checkpoint, faults)
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


def _train(
    config: RunConfig, run: RunFolder, watch: Watch, on_progress: Callable[[Progress], None] | None
) -> dict[str, Any]:
    """From the start, or from where the last checkpoint was written, to the result."""
    trainer = _prepared(config, run, watch)
    status = trainer.train(_reporter(on_progress))
    trainer.note("end", status=status)
    result = _result(trainer, status)
    run.end(result)
    return result


def _prepared(config: RunConfig, run: RunFolder, watch: Watch) -> Trainer:
    """The trainer at the start, or where the last checkpoint was written."""
    try:
        with watch.breakable():
            problem = tasks.prepare(config)
            model, started = initial(problem)
            _describe(run, problem, model, started)
            trainer = Trainer(config, problem, model, run, watch)
            _restore(trainer)
            return trainer
    except StopNow:
        raise watch.interrupted(run.path) from None


def _describe(run: RunFolder, problem: Problem, model: nn.Module, started: Started | None) -> None:
    """Write what is known before the first step; a resumed run must find the same data, and the same start."""
    config = problem.config
    start = "" if started is None else identity_of(config.init)
    code = code_of(config.task, config.scheme)
    identity = fingerprint(config, problem.fingerprint, start, code)
    about = {"fingerprint": identity, "start_sha256": start, "addnorm": __version__} | ({"code": code} if code else {})
    lines = [] if started is None else started.lines()
    if (run.path / "run.json").exists():
        contents: dict[str, Any] = {"environment.json": environment.describe()}
        if "run.json" in run.faults():
            contents["run.json"] = about | _measure(problem, model) | {"started_from": lines}
        mend(run, contents, problem.reader.save)
        _check_same(run, config, identity, start)
        _warn_of_threads(run)
        return
    about |= _measure(problem, model) | {"started_from": lines}
    for text in () if started is None else started.warnings:
        warnings.warn(text, StartWarning, stacklevel=5)
    run.create(config, environment.describe())
    problem.reader.save(run.path)
    run.note_reader(problem.reader.save)
    run.write("run.json", about)


def _check_same(run: RunFolder, config: RunConfig, identity: str, start: str) -> None:
    """Refuse to go on from what has changed since the run was started."""
    before = run.read("run.json")
    if before.get("start_sha256", start) != start:
        raise UserError(
            f"{run.path} was started from other weights: '{config.init}' has changed since. "
            "Put them back as they were, or name another folder."
        )
    if before.get("fingerprint") != identity:
        raise UserError(
            f"{run.path} was trained on other data: '{config.data}' has changed since. "
            "Put the text back as it was, or name another folder."
        )


def _measure(problem: Problem, model: nn.Module) -> dict[str, Any]:
    """What the model and a step cost; before anything is written, so that a bad shape leaves no folder."""
    names = {"chance_name": problem.chance_name, "loss_name": problem.loss_name}
    return {**cost(problem, model), "unigram_entropy": problem.chance_loss, **names, **problem.facts()}


def _restore(trainer: Trainer) -> None:
    """Continue from the last checkpoint that is whole, if there is one."""
    run = trainer.run
    run.checkpoints.sweep()
    found = run.checkpoints.load("last")
    if found is None:
        run.rewind(-1)
        return
    checkpoint, faults = found
    _warn(run, checkpoint, faults)
    for name in faults.keys() - set(POINTERS):
        run.checkpoints.set_aside(name)
    try:
        trainer.restore(checkpoint)
    except UserError:
        raise
    except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(
            f"step {checkpoint.state['step']} in {run.checkpoints.folder} is no checkpoint of this run ({said}); "
            "it was written for another config, or by another release of addnorm."
        ) from error
    run.checkpoints.mend_pointers()
    run.rewind(trainer.at.step, checkpoint.state.get("metrics"))


def _warn(run: RunFolder, checkpoint: Checkpoint, faults: dict[str, str]) -> None:
    """Say what was passed over, and what the model that is taken instead had reached."""
    for name, fault in faults.items():
        what = run.checkpoints.folder / name if name in POINTERS else f"checkpoint {name}"
        text = f"{what} is damaged: {fault}; taking step {checkpoint.state['step']} instead{_reached(checkpoint)}."
        warnings.warn(text, CheckpointWarning, stacklevel=4)


def _reached(checkpoint: Checkpoint) -> str:
    """` (validation loss 2.5, the best had 2.1)`, as far as the checkpoint says it."""
    counters = checkpoint.state.get("counters")
    if not isinstance(counters, dict):
        return ""
    loss, best = counters.get("validation_loss"), counters.get("best_loss")
    return f" (validation loss {loss:.4g}, the best by then {best:.4g})" if _numbers(loss, best) else ""


def _numbers(*values: object) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _warn_of_threads(run: RunFolder) -> None:
    """Sums in another order round otherwise: the run goes on, but not bit for bit."""
    before, now = run.read("environment.json").get("threads"), torch.get_num_threads()
    if before != now:
        text = f"{run.path} was started with {before} threads and goes on with {now}: its last digits will differ."
        warnings.warn(text, ResumeWarning, stacklevel=5)


def _reporter(on_progress: Callable[[Progress], None] | None) -> Callable[[Trainer], None]:
    """Tell the caller how far the run is; the time left counts measuring and saving too."""
    began: list[float] = []

    def report(trainer: Trainer) -> None:
        if on_progress is None:
            return
        done, now = trainer.progress, time.perf_counter()
        if not began:
            began.extend((done, now))  # an earlier process may have trained the share before
        pace = (now - began[1]) / (done - began[0]) if done > began[0] else None
        on_progress(
            Progress(
                step=trainer.at.step,
                steps=trainer.budget.expected_steps(trainer.at.step, trainer.clock.wall_s),
                tokens=trainer.tokens,
                wall_s=trainer.clock.wall_s,
                loss=trainer.at.loss,
                eta_s=None if pace is None else pace * (1 - done),
            )
        )

    return report


def _result(trainer: Trainer, status: str) -> dict[str, Any]:
    rows = trainer.run.rows()
    losses = [float(row["loss"]) for row in rows if row["event"] == "train"][-LAST_ROWS:]
    tokens, wall_s, problem = trainer.tokens, trainer.clock.wall_s, trainer.task
    thresholds = Thresholds(chance_name=problem.chance_name).times(problem.loss_unit)
    return {
        "status": status,
        "tokens": tokens,
        "wall_s": wall_s,
        "cpu_s": trainer.clock.cpu_s,
        "validation_loss": trainer.at.validation_loss,
        "loss_name": problem.loss_name,
        "lowest_validation_loss": trainer.at.lowest_loss,
        "train_loss": sum(losses) / len(losses) if losses else math.nan,
        "tokens_per_s": tokens / wall_s if wall_s else 0.0,
        "diagnosis": asdict(assess(rows, problem.chance_loss, thresholds)),
        "scores": _scores(trainer),
    }


def _scores(trainer: Trainer) -> list[dict[str, Any]]:
    """The field's metrics on some of the validation items; what trivial answers get is for `addnorm evaluate`."""
    if not trainer.config.score_items:
        return []
    limit = trainer.config.score_items
    with trainer.averaged():
        return [asdict(score) for score in trainer.task.scores(trainer.model, "validation", limit, baselines=False)]
