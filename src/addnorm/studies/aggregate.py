"""From the runs of a comparison to its results: one row an arm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from addnorm.schemes import _describe as catalogue
from addnorm.studies import verdict
from addnorm.studies.measured import Curve, Measured, equal_time, equal_tokens
from addnorm.studies.spec import CompareConfig
from addnorm.studies.statistics import Estimate, estimate, paired_difference, paired_ratio

SIGNALS = ("state_grad_norm", "weight_grad_norm", "state_rms", "read_rms", "update_rms", "update_ratio")


@dataclass(frozen=True, kw_only=True)
class Group:
    """The arms of one depth, and the points at which their losses are compared."""

    members: tuple[Measured, ...]
    tokens: float
    wall_s: dict[int, float]
    """By seed."""

    @property
    def mean_wall_s(self) -> float:
        """The time at which losses are compared, for the eye."""
        return sum(self.wall_s.values()) / len(self.wall_s) if self.wall_s else 0.0

    def baseline_of(self, item: Measured, spec: CompareConfig) -> Measured:
        """What an arm is held against: the baseline at the same depth and, unless each has its best, learning rate."""
        return next(
            other
            for other in self.members
            if other.arm.scheme == spec.baseline
            and (spec.pick == "best" or other.arm.learning_rate == item.arm.learning_rate)
        )


def groups(items: Sequence[Measured], spec: CompareConfig) -> list[Group]:
    """The arms by depth."""
    found = []
    for layers in spec.layers:
        members = tuple(item for item in items if item.arm.layers == layers)
        if spec.pick == "best":
            members = _best_rates(members, spec)
        found.append(Group(members=members, tokens=equal_tokens(members), wall_s=equal_time(members)))
    return found


def rows(spec: CompareConfig, found: Sequence[Group]) -> list[dict[str, Any]]:
    """The arms of a `results.json`."""
    return [_row(item, group, spec) for group in found for item in group.members]


def _row(item: Measured, group: Group, spec: CompareConfig) -> dict[str, Any]:
    base = group.baseline_of(item, spec)
    losses, timed, speeds = _values(item, group)
    base_losses, base_timed, base_speeds = _values(base, group)
    loss = estimate(list(losses.values()))
    difference = None if item is base else paired_difference(losses, base_losses)
    timed_difference = None if item is base else paired_difference(timed, base_timed)
    evidence = verdict.Evidence(
        baseline=spec.baseline,
        is_baseline=item is base,
        trains=item.trains(),
        runs=len(item.records),
        loss=loss,
        difference=difference,
        difference_at_equal_time=timed_difference,
        equal_time_s=group.mean_wall_s,
        share_at_equal_time=item.share_at_time(group.wall_s),
        diagnosis=diagnosis(item),
    )
    word, text = verdict.verdict(evidence)
    return {
        **_identity(item),
        **_size(item, base),
        "validation_loss": loss.as_dict(),
        "scores": _scores(item),
        "equal_tokens": group.tokens,
        "difference": _optional(difference),
        "loss_at_equal_time": estimate(list(timed.values())).as_dict(),
        "difference_at_equal_time": _optional(timed_difference),
        "equal_time_s": group.mean_wall_s,
        "share_at_equal_time": evidence.share_at_equal_time,
        "tokens_per_s": estimate(list(speeds.values())).as_dict(),
        "speed_ratio": _optional(paired_ratio(speeds, base_speeds)),
        "diagnosis": evidence.diagnosis,
        "verdict": word,
        "verdict_text": text,
        "curves": [_curve(curve) for curve in item.curves],
        "signals": _signals(item),
    }


def _values(item: Measured, group: Group) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    return item.losses_at_tokens(group.tokens), item.losses_at_time(group.wall_s), item.speeds()


def diagnosis(item: Measured) -> dict[str, Any]:
    """The commonest ailment among the seeds, with its first seed's site and figure; that it trains, if all do."""
    chosen = item.failing() or item.unsound() or list(item.records)
    if not chosen:
        return {"kind": "no run", "site": None, "layer": None, "figure": "", "seeds": 0}
    kind, count = Counter(record.result["diagnosis"]["kind"] for record in chosen).most_common(1)[0]
    first = next(record.result["diagnosis"] for record in chosen if record.result["diagnosis"]["kind"] == kind)
    return {**first, "seeds": count}


def _identity(item: Measured) -> dict[str, Any]:
    arm = item.arm
    about = catalogue.describe(arm.scheme.partition("(")[0].strip())
    return {
        "id": arm.id,
        "scheme": arm.scheme,
        "equation": about.equation,
        "title": about.title,
        "reference": about.reference,
        "diagram": about.diagram,
        "layers": arm.layers,
        "learning_rate": arm.learning_rate,
        "seeds": item.seeds,
    }


def _size(item: Measured, base: Measured) -> dict[str, Any]:
    here, there = _about(item, "activation_bytes", 0), _about(base, "activation_bytes", 0)
    return {
        "parameters": _about(item, "parameters", 0),
        "connection_parameters": _about(item, "connection_parameters", 0),
        "activation_bytes": here,
        "activation_ratio": here / there if there else math.nan,
    }


def _about(item: Measured, name: str, absent: float) -> Any:
    """A figure of the first run's `run.json`: the same for all seeds."""
    return item.records[0].about.get(name, absent) if item.records else absent


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "seed": curve.seed,
        "tokens": curve.tokens,
        "wall_s": curve.wall_s,
        "validation_loss": curve.validation_loss,
    }


def _signals(item: Measured) -> dict[str, Any]:
    """The signal flow of the first seed, a list a measurement."""
    measurements = item.records[0].of_event("signal") if item.records else []
    return {
        "steps": [row["step"] for row in measurements],
        **{name: [row[name] for row in measurements] for name in SIGNALS},
    }


def _scores(item: Measured) -> list[dict[str, Any]]:
    """The task's own metrics over the seeds."""
    found: dict[str, list[float]] = {}
    for record in item.records:
        for score in record.result.get("scores") or ():
            found.setdefault(score["name"], []).append(float(score["value"]))
    return [{"name": name, **estimate(values).as_dict()} for name, values in found.items()]


def _optional(value: Estimate | None) -> Mapping[str, Any] | None:
    return None if value is None else value.as_dict()


def _best_rates(members: Sequence[Measured], spec: CompareConfig) -> tuple[Measured, ...]:
    """Of each scheme the arm with the least mean loss; in the order of the schemes."""
    tokens = equal_tokens(members)

    def mean_loss(item: Measured) -> float:
        mean = estimate(list(item.losses_at_tokens(tokens).values())).mean
        return mean if math.isfinite(mean) else math.inf

    return tuple(min((item for item in members if item.arm.scheme == scheme), key=mean_loss) for scheme in spec.schemes)
