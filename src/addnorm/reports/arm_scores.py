"""The task's own metrics of a comparison's arms, beside their losses."""

from __future__ import annotations

from html import escape
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from addnorm.reports import numbers


def metric_names(results: dict[str, Any]) -> list[str]:
    """The metrics that any arm has, in the order of the task."""
    return list(dict.fromkeys(score["name"] for arm in results["arms"] for score in arm.get("scores") or ()))


def heading(results: dict[str, Any]) -> str:
    """What the figures are taken over."""
    items = (results.get("spec") or {}).get("score_items")
    return f"The task's own metrics, on {items} validation items" if items else "The task's own metrics"


def metrics_table(results: dict[str, Any]) -> Table | None:
    """One row an arm; None where no arm has a metric."""
    names = metric_names(results)
    if not names:
        return None
    table = Table(title=Text(heading(results)), title_style="bold", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("scheme")
    table.add_column("layers", justify="right")
    for name in names:
        table.add_column(Text(name), justify="right")
    for arm in results["arms"]:
        plain = [text.replace(numbers.MINUS, "-") for text in _figures(arm, names)]
        table.add_row(Text(arm["scheme"]), str(arm["layers"]), *plain)
    return table


def metrics_html(results: dict[str, Any]) -> str:
    """The same for the page; empty where no arm has a metric."""
    names = metric_names(results)
    if not names:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("scheme", "layers", *names))
    lines = "".join(
        f'<tr><th scope="row">{escape(arm["scheme"])}</th><td>{arm["layers"]}</td>'
        + "".join(f"<td>{escape(text)}</td>" for text in _figures(arm, names))
        + "</tr>"
        for arm in results["arms"]
    )
    caption = (
        "Mean over n seeds ± half of the 95 % interval of Student's t, cut where it leaves the metric's range; then "
        "what is said of the difference to the baseline."
    )
    return (
        '<section id="metrics" class="broad" aria-labelledby="metrics-heading"><h2 id="metrics-heading">'
        f"{escape(heading(results))}"
        '</h2><div class="scroll" role="region" aria-labelledby="metrics-heading" tabindex="0"><table '
        f'class="comparison"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></section>"
    )


def _figures(arm: dict[str, Any], names: list[str]) -> list[str]:
    by_name = {score["name"]: score for score in arm.get("scores") or ()}
    return [_figure(by_name[name]) if name in by_name else numbers.NONE for name in names]


def _figure(score: dict[str, Any]) -> str:
    """Mean, interval and what is said of the difference, with decimals for a spread of a hundredth of the figure.

    An interval that leaves the metric's range is cut, and written by its ends.

    >>> _figure({"mean": 98.0, "half_width": 5.0, "range": [0.0, 100.0]})
    '98.0 [93.0, 100.0]'
    """
    mean, half = numbers.finite(score["mean"]), numbers.finite(score.get("half_width"))
    places = numbers.decimals_for([(mean or 0) / 100], least=1, most=4)
    text = f"{numbers.fixed(score['mean'], places)} {_spread(mean, half, score.get('range') or [None, None], places)}"
    word = (score.get("decision") or {}).get("word")
    return f"{text.strip()}, {word}" if word else text.strip()


def _spread(mean: float | None, half: float | None, ends: list[float | None], places: int) -> str:
    low, high = (numbers.finite(end) for end in ends)
    if mean is None or half is None:
        return ""
    inside = (low is None or mean - half >= low) and (high is None or mean + half <= high)
    if inside:
        return numbers.interval(half, places)
    least = mean - half if low is None else max(mean - half, low)
    most = mean + half if high is None else min(mean + half, high)
    return f"[{numbers.fixed(least, places)}, {numbers.fixed(most, places)}]"
