"""What it costs to make norms and activations again in backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.beside_pre_norm import NARROW, PRE_LN, bytes_over_pre_ln, counted, over_pre_ln, step_times
from addnorm.bench.language_models import Size, our_model
from addnorm.bench.row import Goal, OnProgress, Result, Row
from addnorm.models.decoder import Transformer

REBUILD, CHECKPOINT = "rebuilding", "checkpointing"


@dataclass(frozen=True, kw_only=True)
class Rebuilding(Row):
    """Saved bytes and step time of Pre-LN with `memory=rebuild`, over those of Pre-LN."""

    rounds: int = 7
    size: Size = Size()
    saved: Goal = Goal(target=0.65, better="lower")
    time: Goal = Goal(target=1.06, better="lower")

    number: ClassVar[int] = 7
    title: ClassVar[str] = "norms and activations rebuilt in backward"
    measures: ClassVar[str] = (
        "Pre-LN whose backward makes norms and activation functions again (`--memory rebuild`) over Pre-LN that keeps "
        "them, float32, d=512, 8 layers, 2,048 tokens, AdamW: bytes that the forward keeps for the backward, counted, "
        "and the training step. Beside it activation checkpointing of every sublayer."
    )

    def measure(self, progress: OnProgress) -> Result:
        """Time in turns, then the count."""
        models = {
            PRE_LN: our_model(self.size),
            **{name: _economical(self.size, name) for name in (REBUILD, CHECKPOINT)},
        }
        times = step_times(models, self.size, "float32", self.rounds, progress)
        saved = bytes_over_pre_ln({name: lambda name=name: models[name] for name in (REBUILD, CHECKPOINT)}, self.size)
        figures = [counted(f"{name}, saved bytes", value, _of(name, self.saved)) for name, value in saved.items()]
        figures += over_pre_ln(times, {name: _of(name, self.time) for name in saved}, "step time")
        return Result(figures=tuple(figures), rounds=times)

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers."""
        return cls(rounds=2, size=NARROW)


def _economical(size: Size, how: str) -> Transformer:
    model = our_model(size)
    model.stack.rebuilding, model.stack.checkpointing = how == REBUILD, how == CHECKPOINT
    return model


def _of(name: str, goal: Goal) -> Goal | None:
    """Only rebuilding is to reach it."""
    return goal if name == REBUILD else None
