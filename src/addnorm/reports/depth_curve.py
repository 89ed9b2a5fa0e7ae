"""One measure by depth as a small static SVG that stays readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from addnorm.reports import numbers
from addnorm.reports.charts import ticks
from addnorm.reports.claim_chart import AxisScale, scale, tick

_WIDTH, _HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 14, 24


def depth_curve(values: Sequence[float | None], name: str, *, log: bool, faults: Mapping[int, str]) -> str:
    """The values over their places; a dashed upright and a cross where a fault is.

    Args:
        values: by depth; None where nothing was measured.
        name: of the measure, for readers that do not see it.
        log: equal ratios are equal lengths.
        faults: causes by place.
    """
    known = [(i, value) for i, value in enumerate(values) if value is not None and (value > 0 or not log)]
    up, last = scale([value for _, value in known], log), max(len(values) - 1, 1)
    points = [(_x(i, last), _y(value, up)) for i, value in known]
    line = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in points) if len(points) <= 64 else ""
    spoken = (
        f"{name}: from {numbers.short(known[0][1])} at {known[0][0]} to {numbers.short(known[-1][1])} "
        f"at {known[-1][0]}, between {numbers.short(min(v for _, v in known))} and "
        f"{numbers.short(max(v for _, v in known))}"
    )
    marks = "".join(_fault(_x(i, last)) for i in faults if 0 <= i <= last)
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(spoken, quote=True)}">{_grid(up, last)}{marks}'
        f'<path class="mean" d="M{line}" stroke="var(--s1)"/><g fill="var(--s1)">{dots}</g></svg>'
    )


def _x(place: float, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / last


def _y(value: float, up: AxisScale) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * up.share(value)


def _grid(up: AxisScale, last: int) -> str:
    bottom, parts = _HEIGHT - _BOTTOM, []
    heights = up.ticks()
    if len(heights) < 2:  # a narrow range has no two powers of ten
        heights = ticks(up.low, up.high, 3)
    for value in heights:
        y = _y(value, up)
        parts.append(f'<path class="grid" d="M{_LEFT},{y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick(value)}</text>')
    for value in ticks(0, last):
        if value == int(value):
            place = f'x="{_x(value, last):.1f}" y="{bottom + 17}" text-anchor="middle"'
            parts.append(f'<text class="tick" {place}>{int(value)}</text>')
    return "".join(parts)


def _fault(x: float) -> str:
    return (
        f'<path class="reference" d="M{x:.1f},{_TOP}V{_HEIGHT - _BOTTOM}"/>'
        f'<path class="fault" d="M{x - 4:.1f},{_TOP - 8}l8,8m0,-8l-8,8"/>'
    )
