"""The comparison as an HTML table: the same cells as in the terminal, with the exact numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from addnorm.reports import numbers
from addnorm.reports.table import COLUMNS, ArmRow, Cell, Column, depths, learning_rates, rows
from addnorm.studies.statistics import FEWEST

# Class and shape (12 units square): words and shape carry the verdict, colour repeats it.
_VERDICTS = {
    "better": ("better", "M6,1L11.5,11H.5Z"),
    "worse": ("worse", "M6,11L11.5,1H.5Z"),
    "equal": ("same", "M0,2.5H12V5H0ZM0,7H12V9.5H0Z"),
    "not decided": ("open", "M6,0A6,6 0 1,0 6,12A6,6 0 1,0 6,0ZM6,2.4A3.6,3.6 0 1,1 6,9.6A3.6,3.6 0 1,1 6,2.4Z"),
    "no difference seen": ("same", "M0,2.5H12V5H0ZM0,7H12V9.5H0Z"),
    **dict.fromkeys(("too short to tell", "not decided yet", "no run ended yet"), ("open", "M1,1H11L7,6L11,11H1L5,6Z")),
    "baseline": ("baseline", "M2,2H10V10H2Z"),
    "does not train": ("fails", "M1,3L3,1L6,4L9,1L11,3L8,6L11,9L9,11L6,8L3,11L1,9L4,6Z"),
    "no run ended": ("fails", "M5,1H7V8H5ZM5,9.5H7V11.5H5Z"),
}
_UNITS = {"loss": "nats/token", "difference": "nats/token", "ratio": "ratio", "count": ""}
_WHISKER = 96


def table(results: dict[str, Any]) -> str:
    """The whole table, one body a depth."""
    rates = len(learning_rates(results)) > 1
    bodies = []
    for layers in depths(results):
        group = [row for row in rows(results) if row.layers == layers]
        bodies.append(_body(layers, group, rates))
    return f'<table class="comparison">{_caption(results)}{_head(rates)}{"".join(bodies)}</table>'


def labels() -> str:
    """CSS that writes its column's heading before a cell, where there is a card an arm instead of a table."""
    named = {"learning_rate": "learning rate", "n": "n", **{column.key: column.heading for column in COLUMNS}}
    rules = [f'.comparison [data-key="{key}"]::before {{ content: "{heading}"; }}' for key, heading in named.items()]
    return "@media (max-width: 82rem) {\n" + "\n".join(rules) + "\n}"


def verdict(word: str) -> str:
    """The verdict with its shape."""
    kind, shape = _VERDICTS.get(word, ("same", ""))
    mark = f'<svg viewBox="0 0 12 12" aria-hidden="true"><path d="{shape}"/></svg>' if shape else ""
    return f'<span class="verdict {kind}">{mark}{escape(word)}</span>'


def meanings(results: dict[str, Any]) -> str:
    """What each column is."""
    items = "".join(f"<dt>{column.heading}</dt><dd>{escape(column.meaning)}</dd>" for column in COLUMNS)
    return f'<dl class="meanings">{items}</dl>'


def _caption(results: dict[str, Any]) -> str:
    most = max((row.cells["validation_loss"].n or 0 for row in rows(results)), default=0)
    spread = "± half of the 95 % interval of Student's t" if most >= FEWEST else "without intervals, which need three"
    text = (
        f"Mean over n seeds {spread}. Differences are to "
        f"{results['baseline']} at the same depth, paired by seed; negative is better."
    )
    return f"<caption>{escape(text)}</caption>"


def _head(rates: bool) -> str:
    cells = ['<th scope="col" class="words" data-sort="text">scheme</th>']
    cells.append('<th scope="col" class="words" data-sort="text">verdict</th>')
    if rates:
        cells.append('<th scope="col" data-sort="number">learning rate</th>')
    for column in COLUMNS:
        unit = f"<br>{_UNITS[column.kind]}" if _UNITS[column.kind] else ""
        cells.append(f'<th scope="col" data-sort="number">{column.heading}{unit}</th>')
        if column.key == "validation_loss":
            cells.append('<th scope="col" data-sort="number">n</th>')
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _body(layers: int, group: Sequence[ArmRow], rates: bool) -> str:
    span = len(COLUMNS) + 2 + rates
    title = numbers.layers(layers)
    reach = _reach(group)
    lines = "".join(_line(row, rates, reach) for row in group)
    heading = f'<tr class="depth"><th scope="rowgroup" class="words">{title}</th><td colspan="{span}"></td></tr>'
    return f'<tbody data-layers="{layers}">{heading}{lines}</tbody>'


def _line(row: ArmRow, rates: bool, reach: float) -> str:
    cells = [f'<th scope="row" class="words">{escape(row.arm["scheme"])}</th>']
    in_time = f'<span class="reason">equal time: {escape(row.in_time)}</span>' if row.in_time else ""
    cells.append(f'<td class="words">{verdict(row.verdict)}{in_time}</td>')
    if rates:
        rate = row.arm["learning_rate"]
        cells.append(f'<td data-key="learning_rate" data-value="{rate!r}">{rate:g}</td>')
    loss, *others = [_cell(row.cells[column.key], column, reach) for column in COLUMNS]
    seeds = row.cells["validation_loss"].n
    count = f'<td data-key="n" data-value="{seeds or ""}">{seeds or numbers.NONE}</td>'
    cells += [loss, count, *others]
    return f'<tr data-arm="{escape(row.arm["id"], quote=True)}">{"".join(cells)}</tr>'


def _cell(cell: Cell, column: Column, reach: float) -> str:
    value = "" if cell.value is None else repr(cell.value)
    half = "" if cell.half_width is None else f' data-half-width="{cell.half_width!r}"'
    interval = (
        "" if column.kind == "count" or column.key == "activation_ratio" else f'<span class="pm">{cell.interval}</span>'
    )
    picture = _whisker(cell, reach) if column.kind == "difference" else ""
    named = f'data-key="{column.key}" data-value="{value}"{half}'
    return f"<td {named}>{cell.text}{interval}{picture}</td>"


def _reach(group: Sequence[ArmRow]) -> float:
    """The largest difference, with its interval, among the arms that train: the scale of the whiskers."""
    cells = [row.cells[key] for row in group if row.verdict != "does not train" for key in _differences()]
    ends = [abs(cell.value) + (cell.half_width or 0.0) for cell in cells if cell.value is not None]
    return max((end for end in ends if end < float("inf")), default=0.0) or 1.0


def _differences() -> list[str]:
    return [column.key for column in COLUMNS if column.kind == "difference"]


def _whisker(cell: Cell, reach: float) -> str:
    """The difference as a dot with its interval beside a line at zero; an arrow where it lies off the scale."""
    if cell.value is None:
        return ""
    middle, scale = _WHISKER / 2, (_WHISKER / 2 - 5) / reach
    zero = f'<path d="M{middle:g},0V12" stroke="var(--edge)"/>'
    if not abs(cell.value) <= reach:
        side = 1 if cell.value > 0 else -1
        tip = middle + side * (_WHISKER / 2 - 1) if cell.value == cell.value else middle
        inner = f'<path d="M{tip:g},6l{-7 * side},-4v8Z" fill="currentColor"/>' if tip != middle else ""
        return _small(zero + inner)
    x = middle + cell.value * scale
    half = (cell.half_width or 0.0) * scale
    left, right = max(x - half, 0), min(x + half, _WHISKER)
    line = f'<path d="M{left:.1f},6H{right:.1f}" stroke="currentColor" stroke-width="1.5"/>' if cell.half_width else ""
    return _small(f'{zero}{line}<circle cx="{x:.1f}" cy="6" r="3" fill="currentColor"/>')


def _small(inner: str) -> str:
    size = f'width="{_WHISKER}" height="12" viewBox="0 0 {_WHISKER} 12"'
    return f'<svg class="whisker" {size} aria-hidden="true">{inner}</svg>'
