"""A task's scores as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from addnorm.reports import numbers


def scores_table(result: dict[str, Any]) -> Group:
    """One row a metric: the model's figure beside the trivial answer's; names are shown as they are, brackets too.

    Args:
        result: as `addnorm.training.evaluation.evaluate_run` returns it.
    """
    items = f"{result['limit']} items" if result["limit"] else "all items"
    title = f"{result['task']}, {result['scheme']}: {result['split']} split of {result['data']}, {items}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (("metric", "left"), ("model", "right"), ("trivial", "right"), ("trivial answer", "left")):
        table.add_column(name, justify=justify)  # pyrefly: ignore
    for score in result["scores"]:
        table.add_row(*map(Text, _cells(score)))
    notes = [f"{score['name']}: {score['note']}" for score in result["scores"] if score["note"]]
    return Group(Text(title), table, *map(Text, [*notes, *_directions(result["scores"])]))


def shown(value: Any) -> str:
    """A score with four significant digits.

    >>> shown(79.123456), shown(0.0463), shown("nan")
    ('79.12', '0.0463', 'nan')
    """
    number = numbers.finite(value)
    return str(value) if number is None else f"{number:.4g}"


def _cells(score: dict[str, Any]) -> list[str]:
    baseline = "-" if score["baseline"] is None else shown(score["baseline"])
    return [score["name"], shown(score["value"]), baseline, score["baseline_name"]]


def _directions(scores: list[dict[str, Any]]) -> list[str]:
    """Which way is better, where it is not upwards."""
    lower = [score["name"] for score in scores if score["better"] == "lower"]
    return [f"lower is better: {', '.join(lower)}"] if lower else []
