"""Learning curves as static SVG for the page: what is seen without scripts and in print."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from addnorm.reports import numbers
from addnorm.reports.palette import MARKERS, Style
from addnorm.reports.series import Axis, Points, Series, diverges, equal_time, loss_range, mean_curve, spread

AXIS_NAMES: dict[Axis, str] = {"tokens": "training tokens", "wall_s": "seconds of training"}

_WIDTH, _HEIGHT = 880, 400
LEFT, _RIGHT, _TOP, _BOTTOM = 48, 210, 26, 44
_LABEL_GAP = 16
_BREAK = 'stroke="var(--bad)" stroke-width="2" fill="none"'


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """From data to pixels."""

    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (_WIDTH - LEFT - _RIGHT) * value / self.x_high

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.y_high - value) / (self.y_high - self.y_low)


def loss_chart(series: Sequence[Series], axis: Axis, unigram_entropy: float | None) -> str:
    """The mean validation losses of one depth as an SVG element.

    Args:
        series: arms of one depth.
        axis: tokens or seconds.
        unigram_entropy: drawn as a line: what a model reaches that only knows how frequent each token is.
    """
    curves = [mean_curve(item.arm, axis) for item in series]
    ends = [x for curve in curves for x, _ in curve]
    low, high = loss_range(series, unigram_entropy)
    frame = _Frame(x_high=max(ends, default=1.0) or 1.0, y_low=low, y_high=high)
    clip = f"clip-{axis}-{series[0].layers}"
    parts = [_grid(frame, axis), _reference(frame, unigram_entropy)]
    parts.append(_equal_time(frame, equal_time(series)) if axis == "wall_s" else "")
    parts += [_curve(frame, item.style, curve, clip) for item, curve in zip(series, curves, strict=True) if curve]
    parts += _labels(frame, series, curves)
    spoken = (
        f"Validation loss against {AXIS_NAMES[axis]} at {numbers.layers(series[0].layers)}: {_ends(series, curves)}."
    )
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(spoken, quote=True)}"><clipPath id="{clip}"><rect x="{LEFT}" y="{_TOP}" '
        f'width="{_WIDTH - LEFT - _RIGHT + 6}" height="{_HEIGHT - _TOP - _BOTTOM}"/></clipPath>{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers inside a range.

    >>> ticks(0, 65_536)
    [0.0, 20000.0, 40000.0, 60000.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def marker(style: Style, x: float, y: float) -> str:
    """A marker of a curve, to be filled by its group; its outline stands once on the page, in `outlines`."""
    return f'<use href="#{style.marker}" x="{x:.0f}" y="{y:.1f}"/>'


def loss_grid(losses: Sequence[float], y: Callable[[float], float], right: int) -> str:
    """Lines at round losses from the axis to `right`, with their numbers and their unit."""
    parts = ['<text class="axis" x="0" y="12">nats per token</text>']
    for loss in losses:
        parts.append(f'<path class="grid" d="M{LEFT},{y(loss):.1f}H{right}"/>')
        place = f'x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end"'
        parts.append(f'<text class="tick" {place}>{numbers.tick(loss)}</text>')
    return "".join(parts)


def outlines() -> str:
    """The markers' outlines, to be drawn by reference."""
    shapes = "".join(f'<path id="{name}" d="{outline}"/>' for name, outline in MARKERS.items())
    return f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>{shapes}</defs></svg>'


def _grid(frame: _Frame, axis: Axis) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [loss_grid(ticks(frame.y_low, frame.y_high), frame.y, right)]
    for value in ticks(0, frame.x_high):
        place = f'x="{frame.x(value):.1f}" y="{bottom + 18}" text-anchor="middle"'
        parts.append(f'<text class="tick" {place}>{numbers.tick(value)}</text>')
    parts.append(f'<text class="axis" x="{right}" y="{bottom + 36}" text-anchor="end">{AXIS_NAMES[axis]}</text>')
    return "".join(parts)


def _reference(frame: _Frame, unigram_entropy: float | None) -> str:
    if unigram_entropy is None or not frame.y_low < unigram_entropy < frame.y_high:
        return ""
    y = frame.y(unigram_entropy)
    text = f"unigram entropy {numbers.fixed(unigram_entropy, 2)}"
    return (
        f'<path class="reference" d="M{LEFT},{y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="tick halo" x="{LEFT + 4}" y="{y + 15:.1f}">{text}</text>'
    )


def _equal_time(frame: _Frame, seconds: float | None) -> str:
    """Where the losses at equal time are read."""
    if seconds is None:
        return ""
    x = frame.x(seconds)
    return (
        f'<path class="reference" d="M{x:.1f},{_TOP}V{_HEIGHT - _BOTTOM}"/>'
        f'<text class="tick halo" x="{x + 4:.1f}" y="{_TOP + 10}">equal time {seconds:.1f} s</text>'
    )


def _curve(frame: _Frame, style: Style, curve: Points, clip: str) -> str:
    colour = f"var(--s{style.colour})"
    path = "L".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in curve)
    marks = "".join(marker(style, frame.x(x), frame.y(y)) for x, y in curve if y <= frame.y_high)
    line = f'<path class="mean" d="M{path}" stroke="{colour}" stroke-dasharray="{style.dash}"/>'
    return f'<g clip-path="url(#{clip})">{line}</g><g fill="{colour}">{marks}</g>'


def _labels(frame: _Frame, series: Sequence[Series], curves: Sequence[Points]) -> list[str]:
    """Names right of the curves' ends, moved apart, tied to their ends by thin lines."""
    known = [(item, curve[-1]) for item, curve in zip(series, curves, strict=True) if curve]
    wanted = [max(frame.y(y), float(_TOP)) for _, (_, y) in known]
    placed = spread(wanted, _LABEL_GAP, _TOP, _HEIGHT - _BOTTOM)
    column = _WIDTH - _RIGHT + 26
    parts = []
    for (item, (x, _)), start, y in zip(known, wanted, placed, strict=True):
        end = frame.x(x)
        if diverges(item.arm):  # a line to its name would look like its continuation
            parts.append(f'<path d="M{end - 6:.1f},{max(start, _TOP + 6) - 6:.1f}l12,12m0,-12l-12,12" {_BREAK}/>')
        elif x > 0.9 * frame.x_high:  # a longer line would look like a curve
            parts.append(f'<path class="leader" d="M{end + 7:.1f},{start:.1f}L{column - 8},{y:.1f}"/>')
        name = f"{item.label} (diverged)" if diverges(item.arm) else item.label
        parts.append(f'<g fill="var(--s{item.style.colour})">{marker(item.style, column, y)}</g>')
        parts.append(f'<text x="{column + 10}" y="{y + 4:.1f}">{escape(name)}</text>')
    return parts


def _ends(series: Sequence[Series], curves: Sequence[Points]) -> str:
    said = [f"{item.label} ends at {curve[-1][1]:.3f}" for item, curve in zip(series, curves, strict=True) if curve]
    return ", ".join(said) or "no measurements"
