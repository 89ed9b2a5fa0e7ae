"""What the page's scripts draw, as JSON small enough for a page below half a megabyte."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from addnorm.reports import numbers
from addnorm.reports.palette import MARKERS, ramp
from addnorm.reports.series import (
    Axis,
    Series,
    all_series,
    at_best_rate,
    diverges,
    equal_time,
    loss_range,
    mean_curve,
    seed_curves,
)
from addnorm.reports.table import depths

AXES: tuple[Axis, ...] = ("tokens", "wall_s")

# Name in results.json: how the page calls it. The last are left out first where the page would grow too large.
MEASURES = {
    "state_grad_norm": "state gradient",
    "weight_grad_norm": "weight gradient",
    "state_rms": "state RMS",
    "update_ratio": "update / weight",
    "update_rms": "written RMS",
    "read_rms": "read RMS",
}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What goes into the page: which measures at how many steps, and whether single seeds have their curves."""

    measures: tuple[str, ...]
    steps: int
    seeds: bool = True


def page_data(results: dict[str, Any], limit: int) -> str:
    """The data for the scripts, at most `limit` characters as long as the mean curves fit.

    Figures keep four digits. Where that is too long, measures are left out, then training steps, then the curves of
    single seeds; the page says which measures.
    """
    for plan in _plans(results):
        text = embed(_data(results, plan))
        if len(text) <= limit:
            break
    return text


def embed(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it closes the element or opens a comment.

    >>> embed("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plans(results: dict[str, Any]) -> list[_Plan]:
    """From everything to the least."""
    names = tuple(MEASURES)
    most = max((len((arm.get("signals") or {}).get("steps") or ()) for arm in results["arms"]), default=0)
    fewer = [_Plan(measures=names[:count], steps=most) for count in range(len(names), 0, -1)]
    fewer += [_Plan(measures=names[:1], steps=count) for count in range(most - 1, 1, -1)]
    return [*fewer, _Plan(measures=names[:1], steps=2, seeds=False), _Plan(measures=(), steps=0, seeds=False)]


def _data(results: dict[str, Any], plan: _Plan) -> dict[str, Any]:
    series, best = all_series(results), {item.arm["id"] for item in at_best_rate(results)}
    unigram = numbers.finite((results.get("data") or {}).get("unigram_entropy"))
    return {
        "baseline": results["baseline"],
        "unfinished": bool(results.get("unfinished")),
        "unigram_entropy": unigram,
        "depths": depths(results),
        "ranges": {n: loss_range([item for item in series if item.layers == n], unigram) for n in depths(results)},
        "equal_time_s": {n: equal_time([item for item in series if item.layers == n]) for n in depths(results)},
        "measures": {name: MEASURES[name] for name in plan.measures},
        "left_out": [text for name, text in MEASURES.items() if name not in plan.measures],
        "markers": MARKERS,
        "ramp": ramp(64),
        "arms": [_arm(item, results["baseline"], item.arm["id"] in best, plan) for item in series],
    }


def _arm(item: Series, baseline: str, best: bool, plan: _Plan) -> dict[str, Any]:
    return {
        "label": item.label,
        "layers": item.layers,
        "rate": item.arm["learning_rate"],
        "baseline": item.arm["scheme"] == baseline,
        **({} if best else {"another_rate": True}),
        "colour": item.style.colour,
        "marker": item.style.marker,
        "dash": item.style.dash,
        "verdict": item.arm["verdict"],
        "diverges": diverges(item.arm),
        "mean": {axis: _points(mean_curve(item.arm, axis)) for axis in AXES},
        "seeds": {axis: [_points(c) for c in seed_curves(item.arm, axis)] if plan.seeds else [] for axis in AXES},
        "signals": _signals(item.arm, plan),
    }


def _points(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [[_digits(x, 6), _digits(y, 6)] for x, y in points]


def _signals(arm: dict[str, Any], plan: _Plan) -> dict[str, Any]:
    """The chosen measures at evenly chosen steps; a number that is not finite is text."""
    stored = arm.get("signals") or {}
    steps = stored.get("steps") or []
    kept = _evenly(len(steps), plan.steps)
    rows = {
        name: [[_digits(value, 4) for value in stored[name][i]] for i in kept]
        for name in plan.measures
        if stored.get(name)
    }
    return {"steps": [steps[i] for i in kept], **rows}


def _evenly(length: int, count: int) -> list[int]:
    """Indices of `count` rows, the first and the last among them.

    >>> _evenly(6, 3)
    [0, 2, 5]
    """
    if count >= length:
        return list(range(length))
    return sorted({round(i * (length - 1) / max(count - 1, 1)) for i in range(count)})


def _digits(value: Any, count: int) -> Any:
    """A number with so many significant digits, as an integer where it is one."""
    figure = numbers.number(value)
    if figure is None:
        return None
    if not math.isfinite(figure):
        return str(figure)
    rounded = float(f"{figure:.{count}g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded
