"""What came out of a run: its result.json."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from addnorm.probes.trainability import Thresholds, assess
from addnorm.training.trainer import Trainer

LAST_ROWS = 10
"""Rows of the training loss that `train_loss` is the mean of."""


def result_of(trainer: Trainer, status: str) -> dict[str, Any]:
    """The losses, speed, trainability and scores of a run that has ended with this status."""
    rows = trainer.run.rows()
    losses = [float(row["loss"]) for row in rows if row["event"] == "train"][-LAST_ROWS:]
    tokens, wall_s, problem = trainer.tokens, trainer.clock.wall_s, trainer.task
    thresholds = Thresholds(chance_name=problem.chance_name).times(problem.loss_unit)
    return {
        "status": status,
        "tokens": tokens,
        "wall_s": wall_s,
        "cpu_s": trainer.clock.cpu_s,
        "validation_loss": trainer.at.validation_loss,
        "loss_name": problem.loss_name,
        "lowest_validation_loss": trainer.at.lowest_loss,
        "train_loss": sum(losses) / len(losses) if losses else math.nan,
        "tokens_per_s": tokens / wall_s if wall_s else 0.0,
        "diagnosis": asdict(assess(rows, problem.chance_loss, thresholds)),
        "scores": _scores(trainer),
    }


def _scores(trainer: Trainer) -> list[dict[str, Any]]:
    """The field's metrics on some of the validation items; what trivial answers get is for `addnorm evaluate`."""
    if not trainer.config.score_items:
        return []
    limit = trainer.config.score_items
    with trainer.averaged():
        return [asdict(score) for score in trainer.task.scores(trainer.model, "validation", limit, baselines=False)]
