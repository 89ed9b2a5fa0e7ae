"""Loss spikes: when a loss is one, and the snapshot that a run goes back to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WINDOW = 32
"""Losses that a new one is held against."""
LEAST = 16
"""Losses before which nothing is called a spike."""
EVERY = 25
"""Steps between snapshots."""
SPREAD = 0.01
"""The standard deviation is at least this share of the mean: losses that hardly move would make a spike of anything."""
PREFIX = "snapshot/"


class SpikeGuard:
    """Tells a spike from the losses before it, and keeps what to go back to.

        spike:  loss > mean + threshold max(std, SPREAD |mean|)   over the last WINDOW losses

    A snapshot is taken after a loss that is none, of the weights that gave this loss, and before their update: what is
    gone back to has been seen to be sound. The run goes on with later batches, because the batches between snapshot and
    spike, met in the same state, would bring it again (Chowdhery et al. 2022, arXiv:2204.02311, section 5.1).

    Args:
        threshold: standard deviations; 0 for no guard, then nothing here does anything.
        live: the tensors that training changes, by name; they are copied, and written in place.
    """

    def __init__(self, threshold: float, live: Callable[[], dict[str, Tensor]]) -> None:
        self.threshold, self._live = threshold, live
        self.losses: list[float] = []
        self.snapshot: dict[str, Tensor] = {}
        self.snapshot_step = -1

    @property
    def can_go_back(self) -> bool:
        """Whether there is a snapshot."""
        return bool(self.snapshot)

    def limit(self) -> float:
        """The loss above which a loss is a spike."""
        if not self.threshold or len(self.losses) < LEAST:
            return math.inf
        mean = math.fsum(self.losses) / len(self.losses)
        variance = math.fsum((loss - mean) ** 2 for loss in self.losses) / len(self.losses)
        return mean + self.threshold * max(math.sqrt(variance), SPREAD * abs(mean))

    def passed(self, step: int, loss: float) -> None:
        """Take in a loss that is no spike, before the update that it leads to."""
        if not self.threshold:
            return
        self.losses = [*self.losses, loss][-WINDOW:]
        if step >= self.snapshot_step + EVERY or not self.snapshot:
            self.snapshot_step = step
            self._take()

    @torch.no_grad()
    def go_back_(self) -> None:
        """Put the snapshot in place."""
        for name, tensor in self._live().items():
            tensor.copy_(self.snapshot[name])

    def tensors(self) -> dict[str, Tensor]:
        """The snapshot, as `snapshot/NAME`."""
        return {PREFIX + name: tensor for name, tensor in self.snapshot.items()}

    def as_json(self) -> dict[str, Any]:
        """The rest of what a resumed run needs."""
        return {"losses": self.losses, "snapshot_step": self.snapshot_step}

    def load_(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue where `tensors` and `as_json` left it."""
        self.snapshot = {name.removeprefix(PREFIX): own for name, own in tensors.items() if name.startswith(PREFIX)}
        self.losses, self.snapshot_step = list(values["losses"]), values["snapshot_step"]

    @torch.no_grad()
    def _take(self) -> None:
        live = self._live()
        if not self.snapshot:
            self.snapshot = {name: tensor.detach().clone() for name, tensor in live.items()}
        else:
            torch._foreach_copy_([self.snapshot[name] for name in live], list(live.values()))
