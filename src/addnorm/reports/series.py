"""What the drawings show of an arm: its mean curve, its seeds, its signal flow, its style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from addnorm.reports.numbers import finite, number
from addnorm.reports.palette import Style, style
from addnorm.reports.table import label

Axis = Literal["tokens", "wall_s"]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One arm, ready to be drawn."""

    arm: dict[str, Any]
    label: str
    layers: int
    style: Style


def all_series(results: dict[str, Any]) -> list[Series]:
    """The arms with their styles: a scheme looks alike at every depth; the baseline has the colour of the text."""
    arms = results["arms"]
    schemes = list(dict.fromkeys([results["baseline"], *(arm["scheme"] for arm in arms)]))
    rates = sorted({arm["learning_rate"] for arm in arms})
    return [
        Series(
            arm=arm,
            label=label(arm, arms),
            layers=arm["layers"],
            style=style(schemes.index(arm["scheme"]), rates.index(arm["learning_rate"])),
        )
        for arm in arms
    ]


def at_best_rate(results: dict[str, Any]) -> list[Series]:
    """Of each scheme and depth the arm of the least mean loss; all arms where a scheme has one learning rate."""
    best: dict[tuple[str, int], Series] = {}
    for item in all_series(results):
        place = item.arm["scheme"], item.layers
        if place not in best or mean_loss(item.arm) < mean_loss(best[place].arm):
            best[place] = item
    return list(best.values())


def mean_loss(arm: dict[str, Any]) -> float:
    """The mean over seeds at equal tokens; infinite where a seed diverged or none ended."""
    mean = finite((arm.get("validation_loss") or {}).get("mean"))
    return math.inf if mean is None or diverges(arm) else mean


def seed_curves(arm: dict[str, Any], axis: Axis) -> list[Points]:
    """The validation losses of each seed up to the first that is not finite."""
    return [
        _finite_start(
            tuple((float(x), number(y) or math.nan) for x, y in zip(c[axis], c["validation_loss"], strict=True))
        )
        for c in arm.get("curves") or ()
    ]


def mean_curve(arm: dict[str, Any], axis: Axis) -> Points:
    """The mean over seeds at each evaluation, up to the last one that every seed reached with a finite loss."""
    curves = [curve for curve in seed_curves(arm, axis) if curve]
    return tuple(
        (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
        for points in zip(*curves, strict=False)
    )


def diverges(arm: dict[str, Any]) -> bool:
    """Whether a seed's loss is no longer finite at its end."""
    ends = [number(curve["validation_loss"][-1]) for curve in arm.get("curves") or () if curve["validation_loss"]]
    return any(end is None or not math.isfinite(end) for end in ends)


def signal(arm: dict[str, Any], name: str, row: int) -> list[float | None]:
    """One row of the signal flow, -1 for the last; numbers that are not finite are None."""
    rows = (arm.get("signals") or {}).get(name) or []
    if not -len(rows) <= row < len(rows):
        return []
    figures = [number(value) for value in rows[row]]
    return [figure if figure is not None and math.isfinite(figure) else None for figure in figures]


def equal_time(series: Sequence[Series]) -> float | None:
    """The seconds at which the losses of one depth are compared."""
    known = [finite(item.arm.get("equal_time_s")) for item in series]
    return next((figure for figure in known if figure), None)


def loss_range(series: Sequence[Series], ceiling: float | None) -> tuple[float, float]:
    """The losses a chart shows: from the lowest up to the ceiling and to all of the last two thirds of the curves.

    Losses at initialisation lie far above; a chart that shows them leaves no room for the differences at the end. The
    ceiling is the unigram entropy: a model above it knows nothing of the order of tokens.
    """
    curves = [curve for item in series for curve in seed_curves(item.arm, "tokens") if curve]
    if not curves:
        return 0.0, 1.0
    last = max(x for curve in curves for x, _ in curve)
    late = [y for curve in curves for x, y in curve if x >= last / 3]
    low = min(y for curve in curves for _, y in curve)
    high = max([*late, ceiling or low, low])
    margin = 0.06 * max(high - low, 0.1)
    return low - margin, high + margin


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Label positions near the wanted ones, in the same order, at least `gap` apart, inside the range if there is room.

    >>> spread([1.0, 1.0, 5.0], 2.0, 0.0, 10.0)
    [0.0, 2.0, 5.0]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[tuple[list[int], float]] = []  # members and the place of the first
    for i in order:
        blocks.append(([i], min(max(places[i], low), high)))
        while len(blocks) > 1 and blocks[-1][1] < blocks[-2][1] + gap * len(blocks[-2][0]):
            members = blocks[-2][0] + blocks[-1][0]
            blocks[-2:] = [(members, _start(members, places, gap, low, high))]
    placed = [0.0] * len(places)
    for members, start in blocks:
        for rank, i in enumerate(members):
            placed[i] = start + rank * gap
    return placed


def _start(members: Sequence[int], places: Sequence[float], gap: float, low: float, high: float) -> float:
    """Where a block of touching labels begins so that they are as near to their places as the range lets them be."""
    wanted = sum(places[i] - rank * gap for rank, i in enumerate(members)) / len(members)
    return max(min(wanted, high - gap * (len(members) - 1)), low)


def _finite_start(points: Points) -> Points:
    """The points before the first that is not finite."""
    end = next((i for i, (x, y) in enumerate(points) if not (math.isfinite(x) and math.isfinite(y))), len(points))
    return points[:end]
