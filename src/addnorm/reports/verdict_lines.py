"""The first lines of the page: of each depth, which schemes are better, worse, equal, and which do not train."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from addnorm.reports import numbers
from addnorm.reports.page_table import verdict
from addnorm.reports.series import at_best_rate
from addnorm.reports.table import ArmRow, depths, rows

ORDER = ("better", "equal", "no difference seen", "not decided", "worse", "too short to tell", "does not train")
BASELINE, COMPARED = "baseline", ("better", "worse")


def verdict_lines(results: dict[str, Any]) -> str:
    """One line a depth, deepest first; a shape and a word stand before the names, of several rates the best."""
    best = {item.arm["id"] for item in at_best_rate(results)}
    here = [row for row in rows(results) if row.arm["id"] in best]
    lines = [_line(layers, [row for row in here if row.layers == layers]) for layers in reversed(depths(results))]
    return f'<ul class="verdict-lines">{"".join(lines)}</ul>'


def _line(layers: int, group: Sequence[ArmRow]) -> str:
    words = list(dict.fromkeys([*ORDER, *(row.verdict for row in group)]))
    groups = {word: [row for row in group if row.verdict == word] for word in words if word != BASELINE}
    base = ", ".join(dict.fromkeys(escape(row.arm["scheme"]) for row in group if row.verdict == BASELINE))
    than = f'<span class="than">than {base}</span> ' if base else ""
    said = [
        f"<li>{verdict(word)} {than if word in COMPARED else ''}{', '.join(_name(row) for row in found)}</li>"
        for word, found in groups.items()
        if found
    ]
    nothing = f"<li>{base} alone: nothing to hold it against</li>" if base else ""
    return f"<li><b>{numbers.layers(layers)}</b><ul>{''.join(said) or nothing}</ul></li>"


def _name(row: ArmRow) -> str:
    """The scheme, with its difference where one is said to be."""
    cell = row.cells["difference"]
    figure = f" {cell.text}" if row.verdict in COMPARED and cell.value is not None else ""
    return f"<span>{escape(row.label)}{figure}</span>"
