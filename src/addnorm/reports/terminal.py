"""The comparison in a terminal: a table that reads at 80 columns and without colour, and the answers below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from addnorm.reports import numbers, wording
from addnorm.reports.arm_scores import metrics_table
from addnorm.reports.table import ArmRow, Cell, depths, learning_rates, rows

Layout = Literal["wide", "narrow"]

# Words carry the verdict; the style only repeats it.
_STYLES = {
    "better": "green",
    "worse": "yellow",
    "does not train": "red",
    "no run ended": "red",
    "baseline": "bold",
    "equal": "cyan",
}

# Heading; heading and width in a narrow table: 16 + 1 + 42 + 13 with 8 gaps are 80 columns.
_HEADINGS = {
    "validation_loss": ("val. loss", "val. loss", 7),
    "difference": ("difference", "diff.", 7),
    "loss_at_equal_time": ("at equal time", "at equal time", 8),
    "speed_ratio": ("tokens/s", "tokens/s", 8),
    "activation_ratio": ("memory", "memory", 6),
    "parameters": ("params", "params", 6),
}

# Shown without their intervals, which CSV and page have: the table is wide enough.
_BARE = ("speed_ratio", "activation_ratio", "parameters")


@dataclass(frozen=True, kw_only=True)
class ComparisonTable:
    """The table in the layout that fits, how to read it, why some arms do not train, and the answers; for rich.

    Args:
        results: as results.json has them.
    """

    results: dict[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if (first := wording.headline(self.results)) is not None:
            yield Text(f"{first}\n", style="bold")
        wide = comparison_table(self.results)
        fits = Measurement.get(console, options.update(width=10_000), wide).maximum <= options.max_width
        yield wide if fits else comparison_table(self.results, layout="narrow")
        metrics = metrics_table(self.results)
        if metrics is not None:
            yield metrics
        yield from _legend(self.results)
        yield from _reasons(self.results)
        yield from _answers(self.results)


def comparison_table(results: dict[str, Any], *, layout: Layout = "wide") -> Table:
    """The table, grouped by depth.

    Losses are in the task's unit, nats per token for a language model; `±` is the 95 % interval of Student's t over n
    seeds.

    Args:
        results: as results.json has them.
        layout: wide takes about 120 columns; narrow puts the intervals below their numbers and takes 80.
    """
    table = Table(
        title=Text(results["title"]),
        title_style="bold",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1 if layout == "wide" else 0, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    rates = layout == "wide" and len(learning_rates(results)) > 1
    _add_columns(table, layout, rates)
    for layers in depths(results):
        group = [row for row in rows(results) if row.layers == layers]
        table.add_row(Text(numbers.layers(layers), style="bold"))
        for row in group:
            table.add_row(*_cells(row, layout, rates), end_section=row is group[-1])
    return table


def _add_columns(table: Table, layout: Layout, rates: bool) -> None:
    narrow = layout == "narrow"
    table.add_column("scheme", width=16 if narrow else None)
    if rates:
        table.add_column("rate", justify="right", no_wrap=True)
    for key, (heading, short, width) in _HEADINGS.items():
        table.add_column(short if narrow else heading, justify="right", width=width if narrow else None)
        if key == "validation_loss":
            table.add_column("n", justify="right", no_wrap=True)
    table.add_column("verdict", width=13 if narrow else None)


def _cells(row: ArmRow, layout: Layout, rates: bool) -> list[Text]:
    narrow = layout == "narrow"
    name = Text("\n".join(wrap(row.label, 16)) if narrow else row.arm["scheme"])
    rate = [Text(f"{row.arm['learning_rate']:g}")] if rates else []
    between = "\n" if narrow else " "
    loss, *others = [_text(row.cells[key], "" if key in _BARE else between) for key in _HEADINGS]
    seeds = Text(str(row.cells["validation_loss"].n or ""))
    return [name, *rate, loss, seeds, *others, _verdict(row, 13 if narrow else 18)]


def _verdict(row: ArmRow, width: int) -> Text:
    """The word; below it what equal time makes of it, where that is another word."""
    verdict = Text(row.verdict, style=_STYLES.get(row.verdict, ""))
    in_time = "\n".join(wrap(f"equal time: {row.in_time}", width))
    return verdict.append(f"\n{in_time}", style="not bold default") if row.in_time else verdict


def _text(cell: Cell, between: str) -> Text:
    """`2.293 ±0.041` (no interval without a gap for it), in ASCII and Latin-1 signs for terminals of any encoding."""
    interval = cell.interval if between else ""
    return Text(f"{cell.text}{between}{interval}".strip().replace(numbers.MINUS, "-").replace(numbers.NONE, "-"))


def _legend(results: dict[str, Any]) -> Iterator[Text]:
    times = {arm["layers"]: arm.get("equal_time_s") for arm in results["arms"]}
    spans = ", ".join(f"{time:.1f} s at {numbers.layers(layers)}" for layers, time in sorted(times.items()) if time)
    yield Text(
        f"\nLosses: {wording.loss_name(results)} on held-out text, mean over n seeds ± 95 % t-interval. "
        f"Difference: to {results['baseline']} at the same depth, paired by seed; negative is better. "
        "Better, worse and equal are corrected for the number of differences (Holm). "
        f"At equal time: after as many seconds of training for every scheme{f' ({spans})' if spans else ''}. "
        "tokens/s and memory (kept for the backward pass): ratios to the baseline.",
        style="dim",
    )


def _reasons(results: dict[str, Any]) -> Iterator[Text | Padding]:
    failing = [row for row in rows(results) if row.verdict in ("does not train", "too short to tell")]
    if failing:
        yield Text("\nWhy some were not seen to train", style="bold")
    for row in failing:
        yield Padding(Text(f"{row.label}, {numbers.layers(row.layers)}: {row.verdict_text}"), (0, 0, 0, 2))


def _answers(results: dict[str, Any]) -> Iterator[Text | Padding]:
    for item in wording.asked(results):
        yield Text(f"\n{item['question']}", style="bold")
        yield Padding(Text(item["answer"]), (0, 0, 0, 2))
