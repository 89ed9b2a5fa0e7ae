"""An average of the weights over the last steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from addnorm.training.optimizer import Optimizer

RAW, AVERAGE = "raw", "average"


class AveragedWeights:
    """An exponential moving average of the weights, without a memory of the initial ones.

        average_t = (1 - decay) sum_{i=1..t} decay^(t-i) w_i / (1 - decay^t)
                  = average_{t-1} + (1 - decay) / (1 - decay^t) (w_t - average_{t-1})

    Averaging is Polyak and Juditsky's (1992); what it does to networks: Morales-Brotons et al. 2024, arXiv:2411.18704;
    the division is Adam's (Kingma and Ba 2014, arXiv:1412.6980). Statistics of a batch norm are not averaged.

    Args:
        optimizer: holds the weights.
        decay: 0 for no average; then nothing here does anything.
    """

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        self.optimizer, self.decay = optimizer, decay
        self.values = {name: buffer.values.clone() for name, buffer in optimizer.buffers.items()} if decay else {}

    def update(self) -> None:
        """Take in the weights after a step of the optimizer."""
        for name, average in self.values.items():
            buffer = self.optimizer.buffers[name]
            average.lerp_(buffer.values, (1 - self.decay) / (1 - self.decay ** buffer.steps.item()))

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Within it, the model has the averaged weights, with whatever constraint its scheme puts on weights."""
        raw = {name: self.optimizer.buffers[name].values.clone() for name in self.values}
        try:
            self._show(self.values)
            if self.values:
                getattr(model, "after_step_", _nothing)()
            yield
        finally:
            self._show(raw)

    def tensors(self) -> dict[str, Tensor]:
        """`raw/PARAMETER`: the weights as trained; `average/PARAMETER`: the average without constraints; copies."""
        tensors: dict[str, Tensor] = {}
        for name, average in self.values.items():
            buffer = self.optimizer.buffers[name]
            for parameter, place in buffer.places.items():
                for kind, values in ((RAW, buffer.values), (AVERAGE, average)):
                    own = values[place].view(parameter.shape).clone()
                    tensors[f"{kind}/{self.optimizer.names[parameter]}"] = own
        return tensors

    def load_(self, tensors: dict[str, Tensor]) -> None:
        """Continue where `tensors` left it, the model's own weights too."""
        for name, average in self.values.items():
            buffer = self.optimizer.buffers[name]
            for parameter, place in buffer.places.items():
                own = self.optimizer.names[parameter]
                buffer.values[place] = tensors[f"{RAW}/{own}"].flatten()
                average[place] = tensors[f"{AVERAGE}/{own}"].flatten()

    @torch.no_grad()
    def _show(self, values: dict[str, Tensor]) -> None:
        for name, tensor in values.items():
            self.optimizer.buffers[name].values.copy_(tensor)


def _nothing() -> None:
    """For models whose weights no scheme constrains."""
