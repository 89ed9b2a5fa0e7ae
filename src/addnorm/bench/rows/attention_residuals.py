"""What attention residuals cost in time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.beside_pre_norm import NARROW, PRE_LN, bytes_over_pre_ln, counted, over_pre_ln, step_times
from addnorm.bench.language_models import Size, our_model
from addnorm.bench.row import Goal, OnProgress, Result, Row

FULL, BLOCK = "attention-residuals", "block-attention-residuals"


@dataclass(frozen=True, kw_only=True)
class AttentionResiduals(Row):
    """Step time and saved bytes of full and block attention residuals over our own Pre-LN."""

    rounds: int = 7
    size: Size = Size()
    time: Goal = Goal(target=1.08, better="lower")
    block_time: Goal = Goal(target=1.08, stretch=1.04, better="lower")
    saved: Goal = Goal(target=1.2, better="lower")

    number: ClassVar[int] = 5
    title: ClassVar[str] = "Attention Residuals over Pre-LN"
    measures: ClassVar[str] = (
        "The float32 training step of Attention Residuals, full and in 8 blocks, over that of Pre-LN, all ours, d=512, "
        "8 layers, 2,048 tokens, AdamW; and the bytes that the forward keeps for the backward over those of Pre-LN, "
        "counted."
    )

    def measure(self, progress: OnProgress) -> Result:
        """Time in turns, then the count."""
        models = {name: our_model(self.size, name) for name in (PRE_LN, FULL, BLOCK)}
        times = step_times(models, self.size, "float32", self.rounds, progress)
        figures = over_pre_ln(times, {FULL: self.time, BLOCK: self.block_time}, "step time")
        saved = bytes_over_pre_ln({name: lambda name=name: models[name] for name in (FULL, BLOCK)}, self.size)
        figures += [counted(f"{name}, saved bytes", value, self.saved) for name, value in saved.items()]
        return Result(figures=tuple(figures), rounds=times)

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers."""
        return cls(rounds=2, size=NARROW)
