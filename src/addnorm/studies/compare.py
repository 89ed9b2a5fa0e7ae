"""A comparison from its specification to its stored results."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from addnorm import schemes, tasks
from addnorm.consent import trusting
from addnorm.errors import UserError
from addnorm.files import append_json_line, finite, read_json_lines
from addnorm.interop.start import start_from
from addnorm.probes.machine import load_average
from addnorm.studies.aggregate import groups, rows
from addnorm.studies.answers import answers
from addnorm.studies.crew import WORKER, Job
from addnorm.studies.decision import NOT_DECIDED
from addnorm.studies.eta import Work
from addnorm.studies.measured import Measured, measured
from addnorm.studies.notes import notes
from addnorm.studies.runner import Signalled, StudyProgress, train_all
from addnorm.studies.spec import CompareConfig, Run, arms, runs
from addnorm.studies.store import RunRecord, Store
from addnorm.studies.unfinished import Ended, unfinished
from addnorm.task import Problem
from addnorm.tracking.tracking import check_installed
from addnorm.training.interruption import Interrupted
from addnorm.training.lock import FolderLock
from addnorm.version import __version__

NATS = "nats per token"
TIMES = "times.jsonl"


def compare(
    spec: CompareConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Callable[[StudyProgress], None] | None = None,
    show: Callable[[dict[str, Any]], object] | None = None,
    command: Sequence[str] = WORKER,
) -> dict[str, Any]:
    """Train every arm with every seed, and say what came out.

    Args:
        spec: what is compared.
        out: the comparison's folder.
        resume: continue a comparison that was stopped; runs that ended are kept.
        progress: called in this thread whenever something happens.
        show: called in this thread with the results of the runs that have ended, from the first on, seldom:
            after each call it waits a hundred times as long as that took.
        command: starts a worker process.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: a scheme's field, the data or the folder is not as it must be.
        Interrupted: by Ctrl-C or SIGTERM, after the workers have saved.
    """
    began = time.monotonic()
    with trusting(spec.task, *spec.schemes):
        check(spec)
    with FolderLock(out):  # two that start on a new folder would train every run twice
        return _compared(spec, Store.open(out, spec, resume=resume), began, progress, show, command)


def _compared(
    spec: CompareConfig,
    store: Store,
    began: float,
    progress: Callable[[StudyProgress], None] | None,
    show: Callable[[dict[str, Any]], object] | None,
    command: Sequence[str],
) -> dict[str, Any]:
    """Train what has not ended, and conclude; where that is asked for, with more seeds until all is decided."""
    rounds, results = seeds_of_rounds(spec), {}
    for seeds in rounds:
        # The error is shared out over the looks: who looks often finds something.
        now = replace(spec, seeds=seeds, error=spec.error / len(rounds))
        jobs = [_job(run, store) for run in runs(now) if not store.has_ended(run)]
        workers, before = spec.workers or cores(), load_average()
        told = progress
        if show is not None:
            told = Ended(lambda now=now: show(so_far(now, store)), progress)
        try:
            failures = train_all(jobs, workers, told, command)
        except Signalled as stop:
            raise Interrupted(store.folder, stop.signal_number) from None
        finally:
            seen = {"before": before, "after": load_average(), "cores": cores(), "workers": workers}
            append_json_line(
                store.folder / TIMES, {"wall_s": time.monotonic() - began, "runs": len(jobs), "load": seen}
            )
            began = time.monotonic()
        results = finite(conclude(now, store, failures))
        results |= {"spec": finite(asdict(spec)), "looks": {"planned": rounds, "seeds": seeds, "error": now.error}}
        store.write_results(results)
        if failures or is_decided(results):
            break
    return results


def seeds_of_rounds(spec: CompareConfig) -> list[int]:
    """After how many seeds a comparison is looked at: once, or, until it is decided, each time half as many more.

    >>> seeds_of_rounds(CompareConfig(seeds=5, until_decided=True, max_seeds=20))
    [5, 8, 12, 18, 20]
    """
    found = [spec.seeds]
    while spec.until_decided and found[-1] < spec.max_seeds:
        found.append(min(spec.max_seeds, found[-1] + -(-found[-1] // 2)))
    return found


def is_decided(results: Mapping[str, Any]) -> bool:
    """Whether no arm is left of which more seeds might say more."""
    return all(arm["verdict"] != NOT_DECIDED for arm in results["arms"])


def check(spec: CompareConfig) -> Problem:
    """Refuse now what every run would refuse later: fields of a scheme, data, a shape or weights that do not fit.

    Returns:
        The task, with its data loaded.

    Raises:
        UserError: what is wrong.
    """
    seen: dict[str, str] = {}
    for scheme in spec.schemes:
        same = seen.setdefault(schemes.format(schemes.parse(scheme)), scheme)
        if same is not scheme:
            raise UserError(f"schemes '{same}' and '{scheme}' are the same; give one of them.")
    check_installed(spec.track or ())
    planned = runs(spec)
    problem = tasks.prepare(planned[0].config)
    for run in planned:
        if run.config.seed == spec.seed:
            start_from(problem.build(run.config), spec.init, task=spec.task)
    return problem


def so_far(spec: CompareConfig, store: Store) -> dict[str, Any]:
    """The results of a comparison that has not ended, from the runs that have."""
    items = _measured(spec, store)
    ended = sum(len(item.records) for item in items)
    judging = spec.seeds - spec.tuning_seeds * (spec.pick == "best" and len(spec.learning_rates) > 1)
    return unfinished(finite(_of_measured(spec, store, items, {})), ended, len(runs(spec)), judging)


def conclude(spec: CompareConfig, store: Store, failures: Mapping[str, str]) -> dict[str, Any]:
    """The results of the runs that have ended, whichever they are."""
    return _of_measured(spec, store, _measured(spec, store), failures)


def _of_measured(
    spec: CompareConfig, store: Store, items: Sequence[Measured], failures: Mapping[str, str]
) -> dict[str, Any]:
    file, about = store.folder / TIMES, next((record.about for item in items for record in item.records), {})
    environment = next((seen for run in runs(spec) if (seen := store.environment(run))), {})
    times = read_json_lines(file) if file.exists() else []
    return concluded(spec, items, about, environment, _title(spec)) | {
        "wall_s": sum(float(row.get("wall_s", 0)) for row in times),
        "load": [row["load"] for row in times if row.get("runs") and "load" in row],
        "failures": [{"run": name, "error": error} for name, error in failures.items()],
    }


def concluded(
    spec: CompareConfig,
    items: Sequence[Measured],
    about: Mapping[str, Any],
    environment: Mapping[str, Any],
    title: str,
) -> dict[str, Any]:
    """The results of arms, wherever their runs were trained.

    Args:
        spec: the baseline, the depths, and what counts as a difference.
        items: the arms with their runs.
        about: the `run.json` of one of them.
        environment: the machine and the versions that they saw.
        title: of the report.
    """
    found, unit = groups(items, spec), about.get("loss_name", NATS)
    return {
        "addnorm": __version__,
        "title": title,
        "spec": asdict(spec),
        "environment": environment,
        "baseline": spec.baseline,
        "data": {
            "name": spec.data,
            "tokenizer": spec.tokenizer,
            "unigram_entropy": about.get("unigram_entropy"),
            "chance_name": about.get("chance_name", "unigram entropy"),
            "loss_name": unit,
            "bytes_per_token": about.get("bytes_per_token"),
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": 0.0,
        "load": [],
        "arms": [{**row, "verdict_text": _in_unit(row["verdict_text"], unit)} for row in rows(spec, found)],
        "answers": [{**item, "answer": _in_unit(item["answer"], unit)} for item in answers(spec, found)],
        "failures": [],
        "notes": notes(spec, found),
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _job(run: Run, store: Store) -> Job:
    config = run.config
    return Job(
        name=run.name,
        config=config,
        folder=store.run_folder(run),
        work=Work(kind=run.arm.id, size=config.seconds or config.num_layers * (config.steps or config.tokens)),
        resume=store.prepare(run),
        code=store.code,
    )


def _measured(spec: CompareConfig, store: Store) -> list[Measured]:
    """Every arm with its runs that have ended, in the order of the seeds."""
    records: dict[str, list[RunRecord]] = {arm.id: [] for arm in arms(spec)}
    for run in sorted(runs(spec), key=lambda run: run.config.seed):
        record = store.record(run)
        if record is not None:
            records[run.arm.id].append(record)
    return [measured(arm, records[arm.id]) for arm in arms(spec)]


def _in_unit(text: str, unit: str) -> str:
    """A sentence about losses in the unit of the task."""
    return text if unit == NATS else text.replace("nats a token", unit)


def _title(spec: CompareConfig) -> str:
    """As in "6 residual schemes at 2 and 24 layers"."""
    schemes, layers = "scheme" if len(spec.schemes) == 1 else "schemes", "layer" if spec.layers == (1,) else "layers"
    return f"{len(spec.schemes)} residual {schemes} at {' and '.join(map(str, spec.layers))} {layers}"
