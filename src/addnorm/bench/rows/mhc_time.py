"""What mHC's streams cost in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.alternation import parts
from addnorm.bench.beside_pre_norm import MHC, NARROW, PRE_LN, HyperConnectionsDecoder, over_pre_ln, step_times
from addnorm.bench.language_models import Size, our_model
from addnorm.bench.peers import HYPER_CONNECTIONS, installed, missing
from addnorm.bench.row import Goal, OnProgress, Result, Row

PEER = "hyper-connections, eager"


@dataclass(frozen=True, kw_only=True)
class MhcTime(Row):
    """Step time of mHC (4 streams, 20 Sinkhorn iterations) over our own Pre-LN step.

    Args:
        rounds_bf16: at most so many rounds in bfloat16, whose steps may be several times as long.

    What holds it back: memory. Under autocast the streams stay float32, so the passes over them are those of the
    float32 step; the three rounds in bfloat16 lie on both sides of the target.
    """

    rounds: int = 7
    rounds_bf16: int = 3
    size: Size = Size()
    goal_fp32: Goal = Goal(target=1.08, stretch=1.05, better="lower")
    goal_bf16: Goal = Goal(target=1.10, stretch=1.05, better="lower")

    number: ClassVar[int] = 3
    title: ClassVar[str] = "mHC step time over Pre-LN"
    measures: ClassVar[str] = (
        "The training step of mHC (4 streams, 20 Sinkhorn iterations) over that of Pre-LN, both ours, d=512, 8 layers, "
        "2,048 tokens, AdamW; float32, and autocast to bfloat16. Beside it the package hyper-connections around the "
        "same sublayers, in eager mode and float32."
    )

    def measure(self, progress: OnProgress) -> Result:
        """Both precisions, one after the other."""
        single, half = parts(progress, 2)
        models = {PRE_LN: our_model(self.size), "mhc": our_model(self.size, MHC)}
        peer = {PEER: HyperConnectionsDecoder(self.size)} if installed(HYPER_CONNECTIONS) else {}
        fp32 = step_times({**models, **peer}, self.size, "float32", self.rounds, single)
        bf16 = step_times(models, self.size, "bfloat16", min(self.rounds, self.rounds_bf16), half)
        figures = over_pre_ln(fp32, {"mhc": self.goal_fp32, **dict.fromkeys(peer)}, "fp32")
        figures += over_pre_ln(bf16, {"mhc": self.goal_bf16}, "bf16")
        rounds = {f"{name}, fp32": times for name, times in fp32.items()}
        rounds |= {f"{name}, bf16": times for name, times in bf16.items()}
        return Result(figures=tuple(figures), rounds=rounds, missing=missing([HYPER_CONNECTIONS]))

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers."""
        return cls(rounds=2, rounds_bf16=2, size=NARROW)
