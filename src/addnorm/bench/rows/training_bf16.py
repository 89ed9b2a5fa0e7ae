"""Training in bfloat16 beside three peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.alternation import parts
from addnorm.bench.language_models import Size
from addnorm.bench.peer_training import against_peers, joined
from addnorm.bench.row import Goal, OnProgress, Result, Row


@dataclass(frozen=True, kw_only=True)
class TrainingBf16(Row):
    """Tokens a second of bfloat16 training steps (autocast, parameters in float32)."""

    rounds: int = 3
    sizes: tuple[Size, ...] = (Size(d_model=512), Size(d_model=256))
    goal: Goal = Goal(target=1.10, stretch=1.3)

    number: ClassVar[int] = 2
    title: ClassVar[str] = "bf16 training, Pre-LN"
    measures: ClassVar[str] = (
        "As the first row, under torch's autocast to bfloat16 for all, at d=512 and d=256. On a processor without "
        "bfloat16 products torch computes them another way, several times slower than float32, for all."
    )

    def measure(self, progress: OnProgress) -> Result:
        """One width after the other, all four in turns."""
        each = zip(self.sizes, parts(progress, len(self.sizes)), strict=True)
        return joined([against_peers(size, "bfloat16", self.goal, self.rounds, tell) for size, tell in each])

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers."""
        size = Size(d_model=32, num_layers=2, num_heads=2, vocab_size=64, batch=2, context=16)
        return cls(rounds=2, sizes=(size,))
