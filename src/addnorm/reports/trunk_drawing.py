"""A trunk as a line of sublayers, faulty ones marked by shape and word, as static SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

PER_ROW, STEP, ROW, LEFT, TOP = 16, 48, 76, 24, 34
KINDS = {"attention": "A", "cross-attention": "C", "feedforward": "F", "block": "B"}
MOST = 320


def trunk_drawing(sublayers: Sequence[Mapping[str, Any]], faults: Mapping[int, str], name: str) -> str:
    """Rows of 16 sublayers: squares of attention (A) and feed-forward (F), a cross and the cause at a fault.

    Args:
        sublayers: of the trunk, by depth.
        faults: causes by number.
        name: of the trunk, for readers that do not see it.
    """
    shown = sublayers[:MOST]
    rows = -(-len(shown) // PER_ROW)
    width = LEFT * 2 + STEP * min(max(len(shown), 1), PER_ROW)
    parts = [_row(row, shown[row * PER_ROW : (row + 1) * PER_ROW]) for row in range(rows)]
    parts += [_site(i, sublayer, faults.get(i)) for i, sublayer in enumerate(shown)]
    if -1 in faults:
        word = f'<text class="cause halo" x="{LEFT - 20}" y="{TOP + 30}">✗ {escape(faults[-1])} in front of 0</text>'
        parts.append(f'<path class="cross" d="M{LEFT - 20},{TOP - 8}l16,16m0,-16l-16,16"/>{word}')
    said = "; ".join(_said(i, cause) for i, cause in sorted(faults.items())) or "no fault"
    return (
        f'<svg class="chart trunk" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + rows * ROW}" '
        f'width="{width}" role="img" aria-label="Trunk {escape(name, quote=True)} of {len(sublayers)} sublayers: '
        f'{escape(said, quote=True)}">{"".join(parts)}</svg>'
    )


def _said(i: int, cause: str) -> str:
    return f"{cause} at sublayer {i}" if i >= 0 else f"{cause} in front of the first"


def _row(row: int, part: Sequence[Any]) -> str:
    y = TOP + row * ROW
    return f'<path class="rail" d="M{LEFT - 16},{y}H{LEFT + STEP * len(part)}"/>'


def _site(i: int, sublayer: Mapping[str, Any], cause: str | None) -> str:
    x, y = LEFT + STEP * (i % PER_ROW) + 6, TOP + ROW * (i // PER_ROW)
    letter = KINDS.get(str(sublayer["kind"]), "·")
    title = f"<title>{i}: {escape(sublayer['name'] or sublayer['block'] or 'a function')}</title>"
    square = f'<rect x="{x - 4}" y="{y - 12}" width="24" height="24" rx="4" class="{"faulty" if cause else "sound"}"/>'
    label = f'<text x="{x + 8}" y="{y + 4}" text-anchor="middle">{letter}</text>'
    number = f'<text class="tick" x="{x + 8}" y="{y - 18}" text-anchor="middle">{i}</text>'
    if cause is None:
        return f"<g>{title}{square}{label}{number}</g>"
    at_end = i % PER_ROW > PER_ROW - 5
    anchor, place = ("end", x + 20) if at_end else ("start", x - 4)
    word = f'<text class="cause halo" x="{place}" y="{y + 30}" text-anchor="{anchor}">✗ {escape(cause)}</text>'
    cross = f'<path class="cross" d="M{x - 4},{y - 12}l24,24m0,-24l-24,24"/>'
    return f"<g>{title}{square}{cross}{label}{number}{word}</g>"
