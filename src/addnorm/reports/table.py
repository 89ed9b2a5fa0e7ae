"""The comparison as rows of cells: what the terminal, the CSV file and the page show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from addnorm.reports import numbers
from addnorm.studies.decision import BETTER, WORSE
from addnorm.studies.verdict import DECIDED


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measured quantity of the table.

    Args:
        key: its name in an arm of results.json.
        heading: as the page and a wide terminal write it.
        meaning: what it is, with its unit, in one sentence.
        kind: how its numbers are written.
    """

    key: str
    heading: str
    meaning: str
    kind: str = "loss"


COLUMNS = (
    Column(
        key="validation_loss",
        heading="validation loss",
        meaning="nats per token on held-out text after equal training tokens, the mean over seeds",
    ),
    Column(
        key="difference",
        heading="difference",
        meaning="this loss minus the baseline's at the same depth, paired by seed; negative is better",
        kind="difference",
    ),
    Column(
        key="loss_at_equal_time",
        heading="loss at equal time",
        meaning="nats per token after equal seconds of training, which charges a slow scheme for its time",
    ),
    Column(
        key="difference_at_equal_time",
        heading="difference at equal time",
        meaning="the loss at equal time minus the baseline's, paired by seed; negative is better",
        kind="difference",
    ),
    Column(
        key="speed_ratio",
        heading="tokens/s",
        meaning="training tokens a second as a ratio to the baseline, paired by seed; above 1 is faster",
        kind="ratio",
    ),
    Column(
        key="activation_ratio",
        heading="memory",
        meaning="bytes kept for the backward pass as a ratio to the baseline; below 1 is less",
        kind="ratio",
    ),
    Column(
        key="parameters",
        heading="parameters",
        meaning="trainable numbers in the whole model, embedding included",
        kind="count",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number with its interval, and how both are written."""

    value: float | None
    half_width: float | None = None
    n: int | None = None
    text: str
    interval: str = ""


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm: its name in the table, its cells by column key, its verdict."""

    arm: dict[str, Any]
    label: str
    layers: int
    cells: dict[str, Cell]
    verdict: str
    verdict_text: str
    in_time: str
    """What the difference at equal time says, where that is another word than the verdict; else empty."""


def rows(results: dict[str, Any]) -> list[ArmRow]:
    """The arms in stored order, the depths together."""
    arms = sorted(results["arms"], key=lambda arm: depths(results).index(arm["layers"]))
    places = _decimals(results["arms"])
    return [
        ArmRow(
            arm=arm,
            label=label(arm, results["arms"]),
            layers=arm["layers"],
            cells={column.key: _cell(arm.get(column.key), column, places) for column in COLUMNS},
            verdict=arm["verdict"],
            verdict_text=arm.get("verdict_text", ""),
            in_time=_in_time(arm),
        )
        for arm in arms
    ]


def depths(results: dict[str, Any]) -> list[int]:
    """The compared numbers of layers, shallow first."""
    return sorted({arm["layers"] for arm in results["arms"]})


def label(arm: dict[str, Any], arms: Sequence[dict[str, Any]]) -> str:
    """The scheme, with its learning rate where a scheme has several at one depth."""
    rates = {other["learning_rate"] for other in arms if _same_place(arm, other)}
    return f"{arm['scheme']} @ {arm['learning_rate']:g}" if len(rates) > 1 else arm["scheme"]


def learning_rates(results: dict[str, Any]) -> list[float]:
    """The learning rates in the table; a column of its own only makes sense for several."""
    return sorted({arm["learning_rate"] for arm in results["arms"]})


def csv_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row an arm with every number as it is stored; a missing number is empty, infinities are 'inf'."""
    return [_csv_row(row.arm) for row in rows(results)]


def _csv_row(arm: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: arm.get(key) for key in ("id", "scheme", "layers", "learning_rate")}
    row["seeds"] = " ".join(map(str, arm.get("seeds", [])))
    row["equal_tokens"] = arm.get("equal_tokens")
    for key in ("validation_loss", "difference", "loss_at_equal_time", "difference_at_equal_time"):
        row |= _flat(key, arm.get(key))
    row["equal_time_s"] = arm.get("equal_time_s")
    for key in ("tokens_per_s", "speed_ratio"):
        row |= _flat(key, arm.get(key))
    for key in ("activation_bytes", "activation_ratio", "parameters", "connection_parameters"):
        row[key] = arm.get(key)
    diagnosis = arm.get("diagnosis") or {}
    row |= {f"diagnosis_{key}": diagnosis.get(key) for key in ("kind", "site", "layer", "figure", "seeds")}
    return row | {key: arm.get(key) for key in ("verdict", "verdict_text")}


def _in_time(arm: dict[str, Any]) -> str:
    """The verdict at equal time, where a scheme's slowness or speed changes it."""
    stored = arm.get("difference_at_equal_time")
    mean = numbers.finite(stored["mean"]) if stored else None
    word = (arm.get("decision_at_equal_time") or {}).get("word", "")
    if mean is None or arm["verdict"] not in DECIDED:
        return ""
    return "" if word == arm["verdict"] else word


def _flat(key: str, estimate: dict[str, Any] | None) -> dict[str, Any]:
    known = estimate or {}
    return {f"{key}_{part}": known.get(part) for part in ("mean", "half_width", "n")}


def _same_place(arm: dict[str, Any], other: dict[str, Any]) -> bool:
    return (arm["scheme"], arm["layers"]) == (other["scheme"], other["layers"])


def _decimals(arms: Sequence[dict[str, Any]]) -> int:
    """One number of decimals for all losses, so that they line up and no difference that was seen prints as zero."""
    seen = [arm.get("difference") for arm in arms if arm["verdict"] in (BETTER, WORSE)]
    return numbers.decimals_for(difference["mean"] for difference in seen if difference)


def _cell(stored: Any, column: Column, decimals: int) -> Cell:
    estimate = stored if isinstance(stored, dict) else {"mean": stored}
    value = numbers.number(estimate.get("mean"))
    if column.kind == "count":
        return Cell(value=value, text=numbers.count(value))
    if column.kind == "ratio":
        half, text, places = estimate.get("half_width"), numbers.ratio(value), 2
    else:
        half, places = estimate.get("half_width"), decimals
        text = numbers.fixed(value, decimals, sign=column.kind == "difference")
    return Cell(
        value=value,
        half_width=numbers.number(half),
        n=estimate.get("n"),
        text=text,
        interval=numbers.interval(half, places),
    )
