"""Activation memory: the bytes that a forward pass keeps for the backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from addnorm.probes.untouched import untouched


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Adds up the storages that are saved for backward while it is entered, each counted once.

    This is a count, not a reading of the allocator: it is the same on every machine and in every run.

    Args:
        model: its parameters and buffers are not counted.
    """

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        self._known: dict[int, Any] = {
            tensor.untyped_storage().data_ptr(): None for tensor in (*model.parameters(), *model.buffers())
        }
        super().__init__(self._pack, lambda tensor: tensor)

    def __enter__(self) -> SavedBytes:  # pyrefly: ignore[bad-override]
        super().__enter__()
        return self

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            # The storage is kept, so that its address is not given to another one while we count.
            self._known[storage.data_ptr()] = storage
            self.total += storage.nbytes()
        return tensor


def activation_bytes(model: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Tensor]) -> int:
    """Bytes of the storages saved for backward, each counted once, without parameters and buffers.

    Args:
        model: the model; its random stream and its buffers are as before afterwards.
        batch: what `loss` takes.
        loss: a scalar of model and batch.
    """
    with untouched(model), torch.enable_grad(), SavedBytes(model) as saved:
        loss(model, batch)
    return saved.total
