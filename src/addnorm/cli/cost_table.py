"""The table of `addnorm compare --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from addnorm.cli.progress import span


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """One row an arm, as `addnorm.studies.dry_run.estimate` gives them."""
    rates = len({row["learning_rate"] for row in rows}) > 1
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    grid.add_column("scheme", overflow="fold")
    for heading in (
        "layers",
        *(["rate"] if rates else []),
        "runs",
        "params",
        "of scheme",
        "memory",
        "FLOPs/token",
        "time",
    ):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = (
            str(row["layers"]),
            *([f"{row['learning_rate']:g}"] if rates else []),
            str(row["runs"]),
            f"{row['parameters']:,}",
            f"{row['connection_parameters']:,}",
            amount(row["activation_bytes"], "B"),
            amount(row["flops_per_token"], ""),
            span(row["seconds"]),
        )
        grid.add_row(Text(row["scheme"]), *cells)
    return grid


def legend(rows: Sequence[dict[str, Any]], wall_s: float) -> str:
    """What the columns are, and the time of the whole."""
    runs = sum(row["runs"] for row in rows)
    return (
        f"{runs} runs, about {span(wall_s)}. Memory: kept for the backward pass of one run. FLOPs: forward and "
        "backward. Time: of one processor core for all runs of the arm, from a few measured steps."
    )


def amount(value: float, unit: str) -> str:
    """A number with a decimal prefix.

    >>> amount(1_500_000, "B"), amount(12, "")
    ('1.5 MB', '12')
    """
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()
