"""Training in float32 beside three peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.language_models import Size
from addnorm.bench.peer_training import against_peers
from addnorm.bench.row import Goal, OnProgress, Result, Row


@dataclass(frozen=True, kw_only=True)
class TrainingFp32(Row):
    """Tokens a second of float32 training steps: forward, loss, backward, AdamW.

    What holds it back: the target stands for processors on which torch's own float32 products reach well under half of
    what the core can do, so that another route for them wins nearly twice the time. Where they run near that, as MKL
    does on Intel's own processors, the products are most of the step of every library, and what is left to win is the
    rest of it: norms, activations, attention, optimizer. `addnorm doctor` shows which of the two a machine is.
    """

    rounds: int = 7
    size: Size = Size()
    goal: Goal = Goal(target=1.8, stretch=2.0)

    number: ClassVar[int] = 1
    title: ClassVar[str] = "fp32 training, Pre-LN"
    measures: ClassVar[str] = (
        "Our tokens a second over each peer's, in float32 training steps (forward, loss, backward, AdamW) of 2,048 "
        "tokens (8 x 256): 8 layers, d=512, 8 heads, vocabulary 4,096. All: norm before the sublayer, GELU "
        "feed-forward of 4d, causal, no dropout; beyond that each library's defaults."
    )

    def measure(self, progress: OnProgress) -> Result:
        """All four in turns."""
        return against_peers(self.size, "float32", self.goal, self.rounds, progress)

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers."""
        return cls(rounds=2, size=Size(d_model=32, num_layers=2, num_heads=2, vocab_size=64, batch=2, context=16))
