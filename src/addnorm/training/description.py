"""What is known of a run before its first step, and whether a resumed run is still the same."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from addnorm.config import RunConfig
from addnorm.consent import code_of
from addnorm.errors import UserError
from addnorm.interop.init_sources import identity_of
from addnorm.interop.start import Started
from addnorm.task import Problem
from addnorm.training import environment
from addnorm.training.cost import cost
from addnorm.training.identity import fingerprint
from addnorm.training.repair import mend
from addnorm.training.run_folder import RunFolder
from addnorm.version import __version__


class StartWarning(UserWarning):
    """What to know of the weights that a run starts from."""


class ResumeWarning(UserWarning):
    """A run goes on in another environment than it was started in."""


def describe(run: RunFolder, problem: Problem, model: nn.Module, started: Started | None) -> None:
    """Write what is known before the first step; a resumed run must find the same data, and the same start.

    Args:
        run: its folder.
        problem: its task with the data.
        model: as it starts.
        started: what the model took of earlier weights.

    Raises:
        UserError: data or start have changed, or what is damaged cannot be made again.
    """
    config = problem.config
    start = "" if started is None else identity_of(config.init)
    code = code_of(config.task, config.scheme)
    identity = fingerprint(config, problem.fingerprint, start, code)
    about = {"fingerprint": identity, "data_sha256": problem.fingerprint, "start_sha256": start}
    about |= {"addnorm": __version__} | ({"code": code} if code else {})
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


def _warn_of_threads(run: RunFolder) -> None:
    """Sums in another order round otherwise: the run goes on, but not bit for bit."""
    before, now = run.read("environment.json").get("threads"), torch.get_num_threads()
    if before != now:
        text = f"{run.path} was started with {before} threads and goes on with {now}: its last digits will differ."
        warnings.warn(text, ResumeWarning, stacklevel=5)
