"""What an arm's runs measured, seed by seed, and where their curves are read."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from addnorm.studies.spec import Arm
from addnorm.studies.store import RunRecord

# Diagnoses of a run that learned nothing.
FAILURES = ("diverged", "stalled")
TOO_SHORT = "too short to tell"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The validation losses of one run."""

    seed: int
    tokens: tuple[float, ...]
    wall_s: tuple[float, ...]
    validation_loss: tuple[float, ...]
    broken: bool
    """Whether the run diverged: no later loss exists."""
    stopped: bool = False
    """Whether the run stopped early: what it leaves is its model of the lowest loss."""

    @property
    def is_whole(self) -> bool:
        """Whether the run used up its budget, or stopped because more of it would not help."""
        return bool(self.tokens) and not self.broken

    def at_tokens(self, tokens: float) -> float:
        """The loss after so many training tokens."""
        return self._at(self.tokens, tokens)

    def at_time(self, wall_s: float) -> float:
        """The loss after so many seconds of training."""
        return self._at(self.wall_s, wall_s)

    def share_at_time(self, wall_s: float) -> float:
        """The share of the run's tokens that it had seen after so many seconds of training."""
        return _between(self.wall_s, self.tokens, min(wall_s, self.wall_s[-1])) / self.tokens[-1]

    def _at(self, axis: Sequence[float], place: float) -> float:
        """The loss on the line between two measurements.

        After its end a diverged run has an infinite one, and one that stopped early has its lowest.

        Nothing is extrapolated: a place after the last measurement of a whole run would be a mistake of the caller.
        """
        if self.stopped and place >= axis[-1]:
            return min(self.validation_loss)
        if not axis or place > axis[-1]:
            return math.inf if self.broken else math.nan
        return _between(axis, self.validation_loss, place)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An arm with the runs that ended."""

    arm: Arm
    records: tuple[RunRecord, ...]
    curves: tuple[Curve, ...]

    @property
    def seeds(self) -> list[int]:
        """Of the runs that ended."""
        return [record.seed for record in self.records]

    def losses_at_tokens(self, tokens: float) -> dict[int, float]:
        """By seed."""
        return {curve.seed: curve.at_tokens(tokens) for curve in self.curves}

    def losses_at_time(self, wall_s: Mapping[int, float]) -> dict[int, float]:
        """By seed, at the seed's time."""
        return {curve.seed: curve.at_time(wall_s[curve.seed]) for curve in self.curves if curve.seed in wall_s}

    def share_at_time(self, wall_s: Mapping[int, float]) -> float:
        """The share of their tokens that whole runs had seen at their seed's time, on average."""
        whole = [curve for curve in self.curves if curve.is_whole and curve.seed in wall_s]
        shares = [curve.share_at_time(wall_s[curve.seed]) for curve in whole]
        return sum(shares) / len(shares) if shares else math.nan

    def speeds(self) -> dict[int, float]:
        """Tokens a second, by seed."""
        return {record.seed: float(record.result["tokens_per_s"]) for record in self.records}

    def of_seeds(self, seeds: Container[int]) -> Measured:
        """The same arm with the runs of some seeds alone."""
        records = tuple(record for record in self.records if record.seed in seeds)
        return replace(self, records=records, curves=tuple(curve for curve in self.curves if curve.seed in seeds))

    def unsound(self) -> list[RunRecord]:
        """The runs whose diagnosis is anything but that they train."""
        return [record for record in self.records if record.result["diagnosis"]["kind"] != "trains"]

    def failing(self) -> list[RunRecord]:
        """The runs that learned nothing; one whose gradients vanish or explode on the way down may learn."""
        return [record for record in self.unsound() if record.result["diagnosis"]["kind"] in FAILURES]

    def trains(self) -> bool:
        """Whether most runs learn and none diverged."""
        if not self.records or any(curve.broken for curve in self.curves):
            return False
        return 2 * (len(self.failing()) + len(self._undecided())) < len(self.records)

    def is_too_short(self) -> bool:
        """Whether it does not train as far as it was seen, and most runs that do not were still on their way."""
        if not self.records or self.trains() or any(curve.broken for curve in self.curves):
            return False
        return len(self._undecided()) >= len(self.failing())

    def _undecided(self) -> list[RunRecord]:
        return [record for record in self.unsound() if record.result["diagnosis"]["kind"] == TOO_SHORT]


def measured(arm: Arm, records: Iterable[RunRecord]) -> Measured:
    """An arm with its records and their curves."""
    kept = tuple(records)
    return Measured(arm=arm, records=kept, curves=tuple(map(_curve, kept)))


def equal_tokens(group: Sequence[Measured]) -> float:
    """The tokens at which the losses of one depth are compared: the most that every run with a whole budget has seen.

    With a budget in tokens that is the budget, and the losses are the final ones. With a budget in seconds the fast
    runs are read where the slowest stood at its end.
    """
    return _end([curve for item in group for curve in item.curves], "tokens")


def equal_time(group: Sequence[Measured]) -> dict[int, float]:
    """The seconds of training at which the losses of one depth are compared, by seed: the least that a whole run took.

    Every whole run of the seed has a loss there, on the line between two of its evaluations: nothing is extrapolated. A
    scheme that needs twice as long for a step is read in the middle of its training. There its learning rate has not
    fallen yet, which costs it a little more than its slowness does; a budget in seconds (`--seconds`) gives each
    scheme a whole schedule. Seed by seed, because the arms of a seed are trained next to each other: a machine that
    slows down between the seeds slows the yardstick too.
    """
    curves = [curve for item in group for curve in item.curves if curve.is_whole]
    seeds = sorted({curve.seed for curve in curves})
    return {seed: _end([curve for curve in curves if curve.seed == seed], "wall_s") for seed in seeds}


def _end(curves: Sequence[Curve], axis: Literal["tokens", "wall_s"]) -> float:
    """Where the first run with a whole budget ends; where all stopped early, the last of them."""
    whole = [curve for curve in curves if curve.is_whole]
    full = [getattr(curve, axis)[-1] for curve in whole if not curve.stopped]
    return min(full) if full else max((getattr(curve, axis)[-1] for curve in whole), default=0.0)


def _curve(record: RunRecord) -> Curve:
    rows = record.of_event("validation")
    return Curve(
        seed=record.seed,
        tokens=_column(rows, "tokens"),
        wall_s=_column(rows, "wall_s"),
        validation_loss=_column(rows, "loss"),
        broken=record.result["status"] == "diverged",
        stopped=record.result["status"] == "stopped early",
    )


def _between(axis: Sequence[float], values: Sequence[float], place: float) -> float:
    """The value at a place within the axis, on the straight line between its neighbours."""
    following = next(i for i, value in enumerate(axis) if value >= place)
    if following == 0 or axis[following] == place:
        return values[following]
    low, high = axis[following - 1], axis[following]
    weight = (place - low) / (high - low)
    return (1 - weight) * values[following - 1] + weight * values[following]


def _column(rows: Sequence[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(row[name]) for row in rows)
