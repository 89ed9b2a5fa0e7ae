"""A claim's figure as static SVG: lines with the mean over seeds and a bar over their range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from addnorm.reports import numbers
from addnorm.reports.charts import marker, ticks
from addnorm.reports.palette import Style, style
from addnorm.reports.series import spread
from addnorm.studies.statistics import FEWEST

_LEFT, _TOP, _BOTTOM = 56, 28, 46
_LABEL_GAP = 16
_LETTER = 7


@dataclass(frozen=True, kw_only=True)
class ChartSize:
    """How large a figure is drawn, in CSS pixels, so that its text of 12 px is read where it is shown."""

    kind: str
    width: int
    plot: int
    """Height of the part with the axes."""
    below: bool
    """Whether the lines' names stand below the axes, not right of them."""


WIDE = ChartSize(kind="wide", width=640, plot=310, below=False)
NARROW = ChartSize(kind="narrow", width=340, plot=250, below=True)


@dataclass(frozen=True, kw_only=True)
class AxisScale:
    """One axis: from data to a share of its length.

    Args:
        low, high: the range that is shown.
        logarithmic: equal ratios are equal lengths.
    """

    low: float
    high: float
    logarithmic: bool

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        low, high, value = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers within the range; on a logarithmic axis powers of ten, with 2 and 5 where few fit.

        >>> AxisScale(low=1.0, high=64.0, logarithmic=True).ticks()
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
        """
        if not self.logarithmic:
            return ticks(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        step = max(1, math.ceil((last - first) / 8))
        factors = (1, 2, 5) if last - first <= 3 else (1,)
        found = [factor * 10.0**power for power in range(first, last + 1, step) for factor in factors]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]


def scale(values: Sequence[float], logarithmic: bool, margin: float = 0.05) -> AxisScale:
    """The axis that shows all finite values, on a logarithmic one all positive ones, with a margin at both ends."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = min(known, default=1.0), max(known, default=10.0)
    if logarithmic:
        room = max((high / low) ** margin, 1.1)
        return AxisScale(low=low / room, high=high * room, logarithmic=True)
    room = margin * (high - low) or 0.5 * (abs(high) or 1.0)
    return AxisScale(low=low - room, high=high + room, logarithmic=False)


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """From data to pixels."""

    across: AxisScale
    up: AxisScale
    size: ChartSize
    names: int
    """Room right of the axes."""

    @property
    def right(self) -> int:
        return self.size.width - self.names

    @property
    def bottom(self) -> int:
        return self.size.plot - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + (self.right - _LEFT) * self.across.share(value)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - _TOP) * self.up.share(value)

    def shows(self, value: float) -> bool:
        """A logarithm has no zero, no axis has infinity, and learning curves begin above theirs."""
        return math.isfinite(value) and (value > 0 or not self.up.logarithmic) and value <= self.up.high


def claim_chart(outcome: dict[str, Any], size: ChartSize = WIDE) -> str:
    """The figure of a stored outcome as an SVG element.

    Args:
        outcome: of claims.json; its lines have places `x`, and at each place in `y` the values of the seeds.
        size: for a desk or for a phone.
    """
    axes, lines = outcome["axes"], outcome["lines"]
    places = [float(x) for line in lines for x in line["x"]]
    first = max(places) / 3 if axes["shows"] == "end" else -math.inf
    seen = [seeds for line in lines for x, seeds in zip(line["x"], line["y"], strict=True) if float(x) >= first]
    frame = _Frame(
        across=scale(places, axes["log_x"], margin=0.03),
        up=scale([float(value) for seeds in seen for value in seeds], axes["log_y"]),
        size=size,
        names=12 if size.below else 36 + _LETTER * max((len(line["label"]) for line in lines), default=0),
    )
    parts = [_grid(frame, axes)]
    drawn = [(line, style(i), _means(line)) for i, line in enumerate(lines)]
    parts += [_line(frame, line, look, means) for line, look, means in drawn]
    parts += _labels(frame, drawn)
    height = size.plot + (_LABEL_GAP * len(drawn) + 4 if size.below else 0)
    return (
        f'<svg class="chart {size.kind}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size.width} {height}" '
        f'role="img" aria-label="{escape(_spoken(axes, drawn), quote=True)}">{"".join(parts)}</svg>'
    )


def _grid(frame: _Frame, axes: dict[str, Any]) -> str:
    right, bottom = frame.right, frame.bottom
    parts = [f'<text class="axis" x="0" y="12">{escape(axes["y"])}</text>']
    for value in frame.up.ticks():
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT},{y:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick(value)}</text>')
    for value in frame.across.ticks():
        place = f'x="{frame.x(value):.1f}" y="{bottom + 18}" text-anchor="middle"'
        parts.append(f'<text class="tick" {place}>{tick(value)}</text>')
    parts.append(f'<text class="axis" x="{right}" y="{bottom + 38}" text-anchor="end">{escape(axes["x"])}</text>')
    return "".join(parts)


def tick(value: float) -> str:
    """A round number at an axis that may span many powers of ten.

    >>> tick(1000.0), tick(1e-07), tick(0.25)
    ('1000', '1e−7', '0.25')
    """
    mantissa, letter, exponent = f"{value:g}".partition("e")
    return f"{mantissa}{letter}{int(exponent) if exponent else ''}".replace("-", numbers.MINUS)


def _means(line: dict[str, Any]) -> list[tuple[float, float]]:
    """At each place the mean over seeds."""
    return [
        (float(x), sum(map(float, seeds)) / max(len(seeds), 1)) for x, seeds in zip(line["x"], line["y"], strict=True)
    ]


def _line(frame: _Frame, line: dict[str, Any], look: Style, means: list[tuple[float, float]]) -> str:
    """The means, joined; a bar from the lowest to the highest seed; the line breaks where there is nothing to show."""
    colour = f"var(--s{look.colour})"
    pieces, pen = [], "M"
    for x, y in means:
        pieces.append(f"{pen}{frame.x(x):.1f},{frame.y(y):.1f}" if frame.shows(y) else "")
        pen = "L" if frame.shows(y) else "M"
    bars = "".join(_bar(frame, float(x), seeds) for x, seeds in zip(line["x"], line["y"], strict=True))
    marks = "".join(marker(look, frame.x(x), frame.y(y)) for x, y in means if frame.shows(y))
    drawn = f'<path class="mean" d="{"".join(pieces)}" stroke="{colour}" stroke-dasharray="{look.dash}"/>'
    return f'{drawn}<path class="range" d="{bars}" stroke="{colour}"/><g fill="{colour}">{marks}</g>'


def _bar(frame: _Frame, x: float, seeds: Sequence[Any]) -> str:
    known = [float(value) for value in seeds if frame.shows(float(value))]
    if len(seeds) < FEWEST or len(known) < 2:
        return ""
    return f"M{frame.x(x):.1f},{frame.y(min(known)):.1f}V{frame.y(max(known)):.1f}"


def _labels(frame: _Frame, drawn: Sequence[tuple[dict[str, Any], Style, list[tuple[float, float]]]]) -> list[str]:
    """Names right of the lines' ends, moved apart, or below; a line that cannot be shown says what it is instead."""
    ends = [means[-1][1] if means else math.nan for _, _, means in drawn]
    wanted = [frame.y(end) if frame.shows(end) else float(frame.bottom) for end in ends]
    places = spread(wanted, _LABEL_GAP, _TOP, frame.bottom)
    column, parts = frame.right + 20, []
    if frame.size.below:
        column, places = _LEFT, [frame.size.plot + _LABEL_GAP * (i + 0.5) for i in range(len(drawn))]
    for (line, look, _), end, y in zip(drawn, ends, places, strict=True):
        name = line["label"] if frame.shows(end) else f"{line['label']} ({numbers.short(end)})"
        parts.append(f'<g fill="var(--s{look.colour})">{marker(look, column, y)}</g>')
        parts.append(f'<text x="{column + 10}" y="{y + 4:.1f}">{escape(name)}</text>')
    return parts


def _spoken(axes: dict[str, Any], drawn: Sequence[tuple[dict[str, Any], Style, list[tuple[float, float]]]]) -> str:
    """What a reader hears instead of the drawing."""
    ends = [
        f"{line['label']} from {numbers.short(means[0][1])} at {numbers.short(means[0][0])} "
        f"to {numbers.short(means[-1][1])} at {numbers.short(means[-1][0])}"
        for line, _, means in drawn
        if means
    ]
    return f"{axes['y']} against {axes['x']}: {', '.join(ends)}."
