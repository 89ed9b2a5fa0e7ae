"""Finished training runs side by side: a comparison that trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from addnorm.config import Recipe, RunConfig
from addnorm.consent import consented
from addnorm.errors import UserError
from addnorm.files import finite
from addnorm.json_file import read_object
from addnorm.studies.compare import concluded
from addnorm.studies.measured import Measured, measured
from addnorm.studies.spec import Arm, CompareConfig
from addnorm.studies.store import RunRecord, record_of
from addnorm.training.identity import FREE

ARM = ("scheme", "num_layers", "learning_rate")
"""What makes an arm; runs of an arm differ in their seed."""
MUST_AGREE = ("task", "data", "tokenizer", "drop_repeats", "skip_bad", "context", "batch_size", "evaluation_tokens")
"""Losses of runs that differ in these are of different things."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    folder: Path
    config: RunConfig
    record: RunRecord
    environment: dict[str, Any]
    data: str
    """The data's fingerprint."""


def compare_runs(folders: Sequence[Path], *, baseline: str | None = None, margin: float = 0.01) -> dict[str, Any]:
    """The results of runs that were trained one by one, as `results.json` has them.

    Runs that differ in their seed alone are one arm. Differences are paired by seed where both arms have it.

    Args:
        folders: of runs that have ended, as `addnorm train` leaves them.
        baseline: the scheme that the others are held against; by default pre-norm, or else the first run's.
        margin: differences of loss below it do not matter.

    Raises:
        UserError: a folder holds no run that has ended; two differ in task, data or tokens, or are one run twice; the
            baseline is missing at a depth.
    """
    if len(folders) < 2:
        raise UserError(f"--runs got {len(folders)} folder; name at least two runs that have ended.")
    found = [_read(folder) for folder in folders]
    _check_comparable(found)
    items = _arms(found)
    spec = _spec(found, items, baseline, margin)
    first = found[0]
    results = concluded(spec, items, first.record.about, first.environment, title=f"{len(folders)} runs, side by side")
    results["notes"] = [*_notes(found, items), *results["notes"][1:3]]
    results["wall_s"] = sum(float(one.record.result.get("wall_s") or 0.0) for one in found)
    return finite(results)


def _read(folder: Path) -> _Found:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no run; `addnorm runs` lists those that have ended.")
    stored = read_object(folder / "config.json")
    about = folder / "run.json"
    code = read_object(about).get("code", {}) if about.is_file() else {}
    for name, flag in (("task", "--task"), ("scheme", "--schemes")):
        if name in stored:
            stored[name] = consented(stored[name], None, folder, flag, code)
    known = {field.name for field in fields(RunConfig)}
    config = RunConfig(**{name: value for name, value in stored.items() if name in known})
    record = record_of(folder, config.seed)
    if record is None:
        raise UserError(f"{folder} has not ended, or is damaged; go on with it: addnorm train --resume --out {folder}")
    environment = folder / "environment.json"
    return _Found(
        folder=folder,
        config=config,
        record=record,
        environment=read_object(environment) if environment.is_file() else {},
        data=str(record.about.get("data_sha256", "")),
    )


def _check_comparable(found: Sequence[_Found]) -> None:
    first = found[0]
    for place, one in enumerate(found[1:], 1):
        for name in MUST_AGREE:
            here, there = getattr(first.config, name), getattr(one.config, name)
            if here != there:
                raise _not_comparable(first, one, f"{name} is {here} and {there}")
        if one.data != first.data:
            raise _not_comparable(first, one, "the data have changed between them")
        for other in found[:place]:
            if _key(one) == _key(other) and one.config.seed == other.config.seed:
                raise UserError(f"{other.folder} and {one.folder} are the same scheme, depth, rate and seed; name one.")
    whole = [one for one in found if one.record.result["status"] == "finished"]
    for one in whole[1:]:
        here, there = (max(row["tokens"] for row in item.record.rows if "tokens" in row) for item in (whole[0], one))
        if here != there:
            raise _not_comparable(whole[0], one, f"they saw {here:,} and {there:,} tokens")


def _not_comparable(first: _Found, one: _Found, what: str) -> UserError:
    return UserError(f"{first.folder} and {one.folder} are not comparable: {what}; train them alike.")


def _key(one: _Found) -> tuple[Any, ...]:
    return tuple(getattr(one.config, name) for name in ARM)


def _arms(found: Sequence[_Found]) -> list[Measured]:
    groups: dict[tuple[Any, ...], list[_Found]] = {}
    for one in found:
        groups.setdefault(_key(one), []).append(one)
    items = []
    for (scheme, layers, rate), members in groups.items():
        arm = Arm(id=f"{scheme}-L{layers}-lr{rate:g}", scheme=scheme, layers=layers, learning_rate=rate)
        ordered = sorted(members, key=lambda one: one.config.seed)
        items.append(measured(arm, [one.record for one in ordered]))
    return items


def _spec(found: Sequence[_Found], items: Sequence[Measured], baseline: str | None, margin: float) -> CompareConfig:
    schemes = list(dict.fromkeys(item.arm.scheme for item in items))
    layers = sorted({item.arm.layers for item in items})
    chosen = baseline or ("pre-norm" if "pre-norm" in schemes else schemes[0])
    for depth in layers:
        here = [item.arm.scheme for item in items if item.arm.layers == depth]
        if chosen not in here:
            raise UserError(
                f"no run of {chosen} at {depth} layers, which the others would be held against; add one, or name "
                f"another with --baseline: {', '.join(dict.fromkeys(here))}."
            )
    config = found[0].config
    shared = {field.name: getattr(config, field.name) for field in fields(Recipe)}
    return CompareConfig(
        **shared,
        schemes=tuple(schemes),
        baseline=chosen,
        layers=tuple(layers),
        learning_rates=(config.learning_rate,),
        pick="best",  # an arm is held against the baseline of its depth, whatever its rate
        seeds=max(len(item.records) for item in items),
        tokens=(config.tokens,),
        margin=margin,
    )


def _notes(found: Sequence[_Found], items: Sequence[Measured]) -> list[str]:
    """How far these are a comparison."""
    seeds = [set(item.seeds) for item in items]
    shared = set.intersection(*seeds)
    said = [
        f"{len(found)} runs that were trained one by one. Differences are paired by seed: {len(shared)} of "
        f"{len(set.union(*seeds))} seeds are in all arms. Intervals are 95 % Student t from three shared seeds on."
    ]
    differing = _differing(found)
    if differing:
        said.append(f"They differ in more than the scheme: {'; '.join(differing)}. A difference may be due to that.")
    machines = {str(one.environment.get("processor")) for one in found}
    if len(machines) > 1:
        said.append(f"They ran on {len(machines)} kinds of processor: their speeds and equal times say nothing.")
    return said


def _differing(found: Sequence[_Found]) -> list[str]:
    names = [field.name for field in fields(RunConfig) if field.name not in (*ARM, *MUST_AGREE, *FREE, "seed")]
    values: Mapping[str, list[Any]] = {
        name: list(dict.fromkeys(str(getattr(one.config, name)) for one in found)) for name in names
    }
    return [f"{name} is {', '.join(seen)}" for name, seen in values.items() if len(seen) > 1]
