"""A square map of numbers between -1 and 1, depth by depth, as static SVG."""

from __future__ import annotations

from collections.abc import Sequence

from addnorm.reports import numbers, palette
from addnorm.reports.charts import ticks

SIDE, LEFT, TOP, STEPS = 300, 34, 8, 32


def depth_map(values: Sequence[Sequence[float]]) -> str:
    """Light is 1 and dark is -1 or 0, whichever is lowest; a legend stands beside it.

    Args:
        values: a square of cosines, by depth.
    """
    size, colours = len(values), palette.ramp(STEPS)
    cell = SIDE / max(size, 1)
    low = min((float(value) for row in values for value in row), default=0.0)
    low = -1.0 if low < 0 else 0.0
    parts = []
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            share = min(max((float(value) - low) / (1 - low), 0.0), 1.0)
            place = (
                f'x="{LEFT + j * cell:.2f}" y="{TOP + i * cell:.2f}" width="{cell + 0.3:.2f}" height="{cell + 0.3:.2f}"'
            )
            parts.append(f'<rect {place} fill="{colours[round(share * (STEPS - 1))]}"/>')
    for depth in ticks(0, max(size - 1, 1)):
        if depth != int(depth):
            continue
        at = (depth + 0.5) * cell
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{TOP + at + 4:.1f}" text-anchor="end">{int(depth)}</text>')
        parts.append(
            f'<text class="tick" x="{LEFT + at:.1f}" y="{TOP + SIDE + 16}" text-anchor="middle">{int(depth)}</text>'
        )
    for step, colour in enumerate(colours):
        y = TOP + SIDE - (step + 1) * SIDE / STEPS
        parts.append(
            f'<rect x="{LEFT + SIDE + 18}" y="{y:.2f}" width="14" height="{SIDE / STEPS + 0.3:.2f}" fill="{colour}"/>'
        )
    for value, y in ((1.0, TOP + 8), (low, TOP + SIDE)):
        parts.append(f'<text class="tick" x="{LEFT + SIDE + 38}" y="{y}">{numbers.tick(value)}</text>')
    return (
        f'<svg class="chart map-of-depths" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + SIDE + 70} '
        f'{TOP + SIDE + 24}" role="img" aria-label="Similarity of the state at {size} depths with each other, '
        f'lowest {low:g}">{"".join(parts)}</svg>'
    )


def _cell(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A little larger than its place, or seams would show."""
    size = f'width="{width + 0.6:.2f}" height="{height + 0.6:.2f}"'
    return f'<rect x="{x:.2f}" y="{y:.2f}" {size} fill="{colour}"/>'
