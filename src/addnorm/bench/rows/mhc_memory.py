"""What mHC's streams cost in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.beside_pre_norm import MHC, NARROW, HyperConnectionsDecoder, bytes_over_pre_ln, counted
from addnorm.bench.language_models import Size, our_model
from addnorm.bench.peers import HYPER_CONNECTIONS, installed, missing
from addnorm.bench.row import Goal, OnProgress, Result, Row
from addnorm.models.decoder import Transformer

REBUILT = "mhc, rebuilding"


@dataclass(frozen=True, kw_only=True)
class MhcMemory(Row):
    """Bytes that mHC's forward keeps for the backward, over those of our own Pre-LN."""

    rounds: int = 1
    size: Size = Size()
    saved: Goal = Goal(target=1.75, better="lower")
    saved_rebuilt: Goal = Goal(target=1.25, better="lower")

    number: ClassVar[int] = 4
    title: ClassVar[str] = "mHC saved bytes over Pre-LN"
    measures: ClassVar[str] = (
        "Bytes of all tensors that the forward keeps for the backward, counted, in float32: mHC (4 streams, 20 "
        "Sinkhorn iterations) over Pre-LN, d=512, 8 layers, 2,048 tokens; and with norms and activations rebuilt in "
        "backward (`--memory rebuild`), over Pre-LN that keeps them. Beside it the package hyper-connections around "
        "the same sublayers."
    )

    def measure(self, progress: OnProgress) -> Result:
        """One forward of each."""
        peer = {"hyper-connections": lambda: HyperConnectionsDecoder(self.size)} if installed(HYPER_CONNECTIONS) else {}
        builders = {"mhc": lambda: our_model(self.size, MHC), REBUILT: self._rebuilt, **peer}
        found = bytes_over_pre_ln(builders, self.size)
        goals = {"mhc": self.saved, REBUILT: self.saved_rebuilt}
        figures = tuple(counted(name, value, goals.get(name)) for name, value in found.items())
        return Result(figures=figures, rounds={}, missing=missing([HYPER_CONNECTIONS]))

    def _rebuilt(self) -> Transformer:
        model = our_model(self.size, MHC)
        model.stack.rebuilding = True
        return model

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers."""
        return cls(size=NARROW)
