"""Short trainings of paired seeds: in every arm of a seed the sublayers start alike and see the same batches."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from addnorm.config import RunConfig
from addnorm.files import read_json_lines
from addnorm.studies.claim import BySeed, Line, OnProgress
from addnorm.studies.compare import cores
from addnorm.studies.crew import Job
from addnorm.studies.eta import Work
from addnorm.studies.runner import Signalled
from addnorm.studies.runner import train_all as train_in_crew
from addnorm.training.interruption import Interrupted
from addnorm.training.run import train

EMBEDDING = "the models' own at first (RMS 1/sqrt(d_model), 0.18 at width 32), then what training makes of it"
LEARNED = 0.1
"""Nats a token below the unigram entropy from which a model has learned something of the order of tokens."""


class Stopped(KeyboardInterrupt):
    """A claim's training was asked to stop; claims that were done are stored.

    Args:
        exit_code: what a command shall exit with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("stopped within a claim")
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one run left.

    Args:
        curve: step and validation loss, nats a token; infinite from where the run diverged.
        unigram_entropy: the loss of a model that knows how often each token comes, and nothing else.
    """

    curve: tuple[tuple[int, float], ...]
    unigram_entropy: float

    @property
    def final(self) -> float:
        """The last validation loss."""
        return self.curve[-1][1]

    @property
    def learns(self) -> bool:
        """Whether it ends well below the unigram entropy."""
        return self.final < self.unigram_entropy - LEARNED


Runs = Mapping[str, list[Trained]]
"""Runs by arm, one a seed."""


def short_run(steps: int, **fields: Any) -> RunConfig:
    """A run of some steps of 8 sequences of 32 tokens of Shakespeare at width 32, or as the fields say."""
    small: dict[str, Any] = {"d_model": 32, "num_heads": 2, "context": 32, "batch_size": 8}
    few: dict[str, Any] = {"evaluations": 8, "evaluation_tokens": 4096, "signals": 0, "saves": 0, "score_items": 0}
    wanted = small | few | fields
    return RunConfig(tokens=steps * wanted["batch_size"] * wanted["context"], **wanted)


def train_all(arms: Mapping[str, RunConfig], seeds: int, progress: OnProgress) -> Runs:
    """Every arm with every seed, seed after seed: a machine that slows down does so for all arms.

    Large trainings share the cores, a thread each; the same seed trains the same either way.
    """
    planned = [(name, replace(config, seed=seed)) for seed in range(seeds) for name, config in arms.items()]
    found = _side_by_side(planned, progress) if _is_large(planned) else _one_by_one(planned, progress)
    runs: dict[str, list[Trained]] = {name: [] for name in arms}
    for (name, _), run in zip(planned, found, strict=True):
        runs[name].append(run)
    return runs


def _is_large(planned: Sequence[tuple[str, RunConfig]]) -> bool:
    """Whether other processes, which take seconds to import torch, are worth their start."""
    return cores() > 1 and sum(config.tokens * config.num_layers for _, config in planned) > 1_000_000


def _one_by_one(planned: Sequence[tuple[str, RunConfig]], progress: OnProgress) -> list[Trained]:
    found = []
    for number, (_, config) in enumerate(planned, start=1):
        found.append(trained(config))
        progress(number / len(planned))
    return found


def _side_by_side(planned: Sequence[tuple[str, RunConfig]], progress: OnProgress) -> list[Trained]:
    """On all cores, in folders that are thrown away."""
    with tempfile.TemporaryDirectory(prefix="addnorm-claim-") as folder:
        jobs = [
            Job(
                name=f"{number}-{name}",
                config=config,
                folder=Path(folder) / str(number),
                work=Work(kind=name, size=config.tokens * config.num_layers),
            )
            for number, (name, config) in enumerate(planned)
        ]
        try:
            failures = train_in_crew(jobs, cores(), lambda state: progress(state.done / state.total))
        except Signalled as stop:
            raise Stopped(128 + stop.signal_number) from stop
        for name, error in failures.items():
            raise RuntimeError(f"{name}: {error}")
        return [_read(job.folder, json.loads((job.folder / "result.json").read_text())) for job in jobs]


def trained(config: RunConfig, look: Callable[[Path], None] | None = None) -> Trained:
    """Train in a folder that is thrown away.

    Args:
        config: the run.
        look: is shown the folder before.

    Raises:
        Stopped: by Ctrl-C or SIGTERM.
    """
    with tempfile.TemporaryDirectory(prefix="addnorm-claim-") as folder:
        path = Path(folder) / "run"
        try:
            result = train(config, path)
        except Interrupted as stop:
            raise Stopped(stop.exit_code) from stop
        if look is not None:
            look(path)
        return _read(path, result)


def curves(runs: Runs, labels: Mapping[str, str]) -> dict[str, Line]:
    """The validation loss of every arm by step."""
    lines = {}
    for name, label in labels.items():
        steps = [step for step, _ in runs[name][0].curve]
        by_seed = [dict(run.curve) for run in runs[name]]
        points: dict[float, BySeed] = {step: tuple(curve.get(step, math.inf) for curve in by_seed) for step in steps}
        lines[name] = Line(label=label, points=points)
    return lines


def entropy_line(runs: Runs, like: Line) -> Line:
    """The unigram entropy as a line over the same places."""
    entropy = next(iter(runs.values()))[0].unigram_entropy
    return Line(label="unigram entropy", points=dict.fromkeys(like.points, (entropy,)))


def _read(path: Path, result: dict[str, Any]) -> Trained:
    rows = read_json_lines(path / "metrics.jsonl")
    curve = [(int(row["step"]), float(row["loss"])) for row in rows if row["event"] == "validation"]
    if result["status"] == "diverged" or not math.isfinite(curve[-1][1]):
        curve = [*curve[:-1], (curve[-1][0], math.inf)]
    entropy = json.loads((path / "run.json").read_text(encoding="utf-8"))["unigram_entropy"]
    return Trained(curve=tuple(curve), unigram_entropy=float(entropy))
