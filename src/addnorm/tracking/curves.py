"""From the rows of a run's metrics.jsonl to named points of curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Point = dict[str, float]

TRAIN = {"loss": "loss/train", "grad_norm": "run/gradient_norm", "learning_rate": "run/learning_rate"}
SIGNAL = "signal_"
"""Before the measures by depth: trackers sort by name, and losses are looked at first."""
BY_DEPTH = ("state_rms", "state_grad_norm", "read_rms", "update_rms", "weight_grad_norm", "update_ratio")


class Curves:
    """Points of the rows of one run, taken in their order.

        loss/train, run/gradient_norm (before clipping), run/learning_rate   of the step
        run/tokens_per_s           (tokens - tokens before) / (seconds - seconds before), from one such row to the next
        loss/validation
        signal_state_rms/07 ...    what the probe measured at sublayer 7, counted from 0: see `addnorm.probes.signal`

    The speed is taken from the rows, so that the same rows give the same points whenever they are read.
    """

    def __init__(self) -> None:
        self._tokens, self._wall_s = 0.0, 0.0

    def of(self, row: Mapping[str, Any]) -> Point:
        """The points of one row by the name of their curve; none for a row that belongs to no curve."""
        event = row.get("event")
        if event == "train":
            return {TRAIN[name]: float(row[name]) for name in TRAIN if name in row} | self._speed(row)
        if event == "validation":
            return {"loss/validation": float(row["loss"])}
        if event == "signal":
            return by_depth({SIGNAL + name: row[name] for name in BY_DEPTH if name in row})
        return {}

    def _speed(self, row: Mapping[str, Any]) -> Point:
        tokens, wall_s = float(row["tokens"]) - self._tokens, float(row["wall_s"]) - self._wall_s
        self._tokens, self._wall_s = float(row["tokens"]), float(row["wall_s"])
        return {"run/tokens_per_s": tokens / wall_s} if wall_s > 0 else {}


def by_depth(measures: Mapping[str, Any], names: list[str] | None = None) -> Point:
    """One point for each measure and depth; what was not measured (None, nan) has none.

    >>> by_depth({"state_rms": [1.0, None]}), by_depth({"state_rms": [1.0, 2.0]}, ["layers.0", "layers.1"])
    ({'state_rms/00': 1.0}, {'state_rms/layers.0': 1.0, 'state_rms/layers.1': 2.0})
    """
    points: Point = {}
    for measure, values in measures.items():
        for name, value in zip(names or [f"{i:02}" for i in range(len(values))], values, strict=True):
            if value is not None and not math.isnan(float(value)):
                points[f"{measure}/{name}"] = float(value)
    return points
