"""Loss against learning rate: one chart a depth, one line a scheme, the best rate of each marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from addnorm.reports import numbers
from addnorm.reports.charts import LEFT, loss_grid, marker, ticks
from addnorm.reports.palette import Style, style
from addnorm.reports.series import Series, all_series, mean_loss, spread
from addnorm.reports.table import depths, learning_rates

_WIDTH, _HEIGHT = 460, 320
_RIGHT, _TOP, _BOTTOM = 10, 26, 48


@dataclass(frozen=True, kw_only=True)
class _Point:
    rate: float
    loss: float
    """Infinite where the arm diverged."""
    half_width: float | None


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """From rates and losses to pixels; rates lie on a logarithmic axis."""

    rates: tuple[float, float]
    low: float
    high: float

    def x(self, rate: float) -> float:
        low, high = map(math.log, self.rates)
        return LEFT + 8 + (_WIDTH - LEFT - _RIGHT - 16) * (math.log(rate) - low) / (high - low)

    def y(self, loss: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - min(loss, self.high)) / (self.high - self.low)


def rate_charts(results: dict[str, Any]) -> str:
    """A chart for each depth; empty where the comparison has one learning rate."""
    if len(learning_rates(results)) < 2:
        return ""
    schemes = list(dict.fromkeys([results["baseline"], *(arm["scheme"] for arm in results["arms"])]))
    looks, figures = {scheme: style(place) for place, scheme in enumerate(schemes)}, []
    for layers in depths(results):
        here = [item for item in all_series(results) if item.layers == layers]
        caption = numbers.layers(layers)
        figures.append(f"<figure><figcaption>{caption}</figcaption>{_chart(here, looks, layers)}</figure>")
    return (
        '<section id="rates" aria-labelledby="rates-heading"><h2 id="rates-heading">Loss against learning rate</h2>'
        '<p class="lead">The mean over seeds after equal tokens; bars are 95 % intervals, from three seeds on. '
        "A ring marks the best rate of a scheme, a cross a rate at which it diverged.</p>"
        f'<div class="rates">{"".join(figures)}</div></section>'
    )


def _chart(series: Sequence[Series], looks: dict[str, Style], layers: int) -> str:
    lines: dict[str, list[_Point]] = {}
    for item in series:
        lines.setdefault(item.arm["scheme"], []).append(_point(item))
    lines = {scheme: sorted(points, key=lambda point: point.rate) for scheme, points in lines.items()}
    rates = sorted({point.rate for points in lines.values() for point in points})
    frame = _frame(list(lines.values()), rates)
    parts = [_grid(frame, rates), *(_line(frame, points, looks[scheme]) for scheme, points in lines.items())]
    spoken = "; ".join(f"{scheme} best at {_best(points)}" for scheme, points in lines.items())
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(f"Loss against learning rate at {numbers.layers(layers)}: {spoken}", quote=True)}">'
        f"{''.join(parts)}</svg>{_key(lines, looks)}"
    )


def _point(item: Series) -> _Point:
    half = numbers.finite((item.arm.get("validation_loss") or {}).get("half_width"))
    return _Point(rate=item.arm["learning_rate"], loss=mean_loss(item.arm), half_width=half)


def _frame(lines: Sequence[Sequence[_Point]], rates: Sequence[float]) -> _Frame:
    """Up to twice as far above the best losses as these lie apart; what is worse is off the scale."""
    finite = [point.loss for points in lines for point in points if math.isfinite(point.loss)] or [0.0]
    best = [min((point.loss for point in points), default=math.inf) for points in lines]
    known = [loss for loss in best if math.isfinite(loss)] or finite
    low, high = min(finite), min(max(finite), max(known) + 2 * max(max(known) - min(known), 0.15))
    margin = 0.08 * max(high - low, 0.05)
    ends = (rates[0], rates[-1]) if len(rates) > 1 else (rates[0] / 2, rates[0] * 2)
    return _Frame(rates=ends, low=low - margin, high=high + margin)


def _best(points: Sequence[_Point]) -> str:
    best = min(points, key=lambda point: point.loss)
    return "no rate" if math.isinf(best.loss) else f"{best.rate:g} with {best.loss:.3f}"


def _grid(frame: _Frame, rates: Sequence[float]) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [loss_grid(ticks(frame.low, frame.high), frame.y, right)]
    places = spread([frame.x(rate) for rate in rates], 44, LEFT, right)
    for rate, place in zip(rates, places, strict=True):
        parts.append(f'<path class="grid" d="M{frame.x(rate):.1f},{bottom}v5"/>')
        parts.append(f'<text class="tick" x="{place:.1f}" y="{bottom + 18}" text-anchor="middle">{rate:g}</text>')
    parts.append(f'<text class="axis" x="{right}" y="{bottom + 38}" text-anchor="end">learning rate</text>')
    return "".join(parts)


def _line(frame: _Frame, points: Sequence[_Point], look: Style) -> str:
    colour, best = f"var(--s{look.colour})", min(points, key=lambda point: point.loss)
    seen = [point for point in points if math.isfinite(point.loss)]
    path = "L".join(f"{frame.x(point.rate):.1f},{frame.y(point.loss):.1f}" for point in seen)
    parts = [f'<path class="mean" d="M{path}" stroke="{colour}" stroke-dasharray="{look.dash}"/>'] if path else []
    for point in points:
        x = frame.x(point.rate)
        if math.isinf(point.loss):
            parts.append(f'<path d="M{x - 5:.1f},{_TOP - 2}l10,10m0,-10l-10,10" stroke="{colour}" stroke-width="2"/>')
            continue
        y = frame.y(point.loss)
        if point.half_width:
            ends = frame.y(point.loss + point.half_width), frame.y(max(point.loss - point.half_width, frame.low))
            parts.append(f'<path d="M{x:.1f},{ends[0]:.1f}V{ends[1]:.1f}" stroke="{colour}"/>')
        parts.append(f'<g fill="{colour}">{marker(look, x, y)}</g>')
        if point is best:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return "".join(parts)


def _key(lines: dict[str, list[_Point]], looks: dict[str, Style]) -> str:
    """The schemes, the lowest loss first, each with its best rate."""
    items = []
    for scheme, points in sorted(lines.items(), key=lambda item: min(point.loss for point in item[1])):
        look = looks[scheme]
        line = f'<path d="M0,6H30" fill="none" stroke="var(--s{look.colour})" stroke-width="2" '
        line += f'stroke-dasharray="{look.dash}"/><g fill="var(--s{look.colour})">{marker(look, 15, 6)}</g>'
        swatch = f'<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true">{line}</svg>'
        items.append(f"<li>{swatch} <b>{escape(scheme)}</b> best at {_best(points)}</li>")
    return f'<ul class="key">{"".join(items)}</ul>'
