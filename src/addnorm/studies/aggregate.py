"""From the runs of a comparison to its results: one row an arm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from addnorm.schemes import _describe as catalogue
from addnorm.studies import verdict
from addnorm.studies.decision import NOT_DECIDED, Decision, decide
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
        if spec.pick == "best" and len(spec.learning_rates) > 1:
            members = tuple(at_best_rate(members, scheme, spec) for scheme in spec.schemes)
        found.append(Group(members=members, tokens=equal_tokens(members), wall_s=equal_time(members)))
    return found


def rows(spec: CompareConfig, found: Sequence[Group]) -> list[dict[str, Any]]:
    """The arms of a `results.json`."""
    decisions = _decisions(spec, found)
    return [_row(item, group, spec, decisions) for group in found for item in group.members]


def at_best_rate(members: Sequence[Measured], scheme: str, spec: CompareConfig) -> Measured:
    """Of a scheme the arm with the least mean loss over the tuning seeds, with the runs of the other seeds alone.

    A rate that is chosen by the losses it is then judged by looks better than it is.
    """
    tokens = equal_tokens(members)
    tuning = range(spec.seed, spec.seed + spec.tuning_seeds)

    def mean_loss(item: Measured) -> float:
        mean = estimate(list(item.of_seeds(tuning).losses_at_tokens(tokens).values())).mean
        return mean if math.isfinite(mean) else math.inf

    found = [item for item in members if item.arm.scheme == scheme]
    if len(found) == 1:
        return found[0]
    return min(found, key=mean_loss).of_seeds([seed for item in found for seed in item.seeds if seed not in tuning])


def _decisions(spec: CompareConfig, found: Sequence[Group]) -> dict[tuple[str, str], Decision]:
    """All differences of the comparison as one family, by arm and by where the losses are read.

    Arms that do not train, or whose baseline does not, are said to be so and are no part of it.
    """
    differences = {}
    for group in found:
        for item in group.members:
            base = group.baseline_of(item, spec)
            if item is base or not item.trains() or not base.trains():
                continue
            (tokens, time, _), (base_tokens, base_time, _) = _values(item, group), _values(base, group)
            differences[item.arm.id, "tokens"] = paired_difference(tokens, base_tokens)
            differences[item.arm.id, "time"] = paired_difference(time, base_time)
    return decide(differences, spec.margin, error=spec.error)


def _row(
    item: Measured, group: Group, spec: CompareConfig, decisions: Mapping[tuple[str, str], Decision]
) -> dict[str, Any]:
    base = group.baseline_of(item, spec)
    losses, timed, speeds = _values(item, group)
    base_losses, base_timed, base_speeds = _values(base, group)
    loss = estimate(list(losses.values()))
    difference = None if item is base else paired_difference(losses, base_losses)
    timed_difference = None if item is base else paired_difference(timed, base_timed)
    decision, timed_decision = (
        decisions.get((item.arm.id, where), Decision(word=NOT_DECIDED)) for where in ("tokens", "time")
    )
    evidence = verdict.Evidence(
        baseline=spec.baseline,
        is_baseline=item is base,
        trains=item.trains(),
        too_short=item.is_too_short(),
        runs=len(item.records),
        loss=loss,
        difference=difference,
        decision=decision,
        decision_at_equal_time=timed_decision,
        margin=spec.margin,
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
        "scores": _scores(item, base, spec),
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
        "decision": asdict(decision),
        "decision_at_equal_time": asdict(timed_decision),
        "curves": [_curve(curve) for curve in item.curves],
        "signals": _signals(item),
    }


def _values(item: Measured, group: Group) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    return item.losses_at_tokens(group.tokens), item.losses_at_time(group.wall_s), item.speeds()


def diagnosis(item: Measured) -> dict[str, Any]:
    """The commonest ailment among the seeds, with its first seed's site and figure; that it trains, if all do."""
    failing = [] if item.is_too_short() else item.failing()
    chosen = failing or item.unsound() or list(item.records)
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


def _scores(item: Measured, base: Measured, spec: CompareConfig) -> list[dict[str, Any]]:
    """The task's own metrics over the seeds, each with its difference to the baseline and what is said of it."""
    own, others = _by_metric(item), _by_metric(base)
    differences = {
        name: None if item is base else paired_difference(values, others.get(name, {})) for name, values in own.items()
    }
    every = [score for record in item.records for score in record.result.get("scores") or ()]
    better = {score["name"]: score.get("better", "higher") for score in every}
    # Negative is better for `decide`.
    signed = {
        name: value if value is None or better[name] == "lower" else replace(value, mean=-value.mean)
        for name, value in differences.items()
    }
    arms = len(spec.schemes) * len(spec.layers)
    said = decide(signed, spec.score_margin, error=spec.error, family=len(signed) * max(arms - len(spec.layers), 1))
    return [
        {
            "name": name,
            **estimate(list(values.values())).as_dict(),
            "range": next([s.get("lowest"), s.get("highest")] for s in every if s["name"] == name),
            "difference": _optional(differences[name]),
            "decision": None if item is base else asdict(said[name]),
        }
        for name, values in own.items()
    ]


def _by_metric(item: Measured) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for record in item.records:
        for score in record.result.get("scores") or ():
            found.setdefault(score["name"], {})[record.seed] = float(score["value"])
    return found


def _optional(value: Estimate | None) -> Mapping[str, Any] | None:
    return None if value is None else value.as_dict()
