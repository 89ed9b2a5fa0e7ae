"""Bytes that the operations of a training step read and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from addnorm.kernels import native
from addnorm.kernels.dispatch import DispatchMode
from addnorm.probes.untouched import untouched


class ByteCount(DispatchMode):
    """Adds up what the operations that run while it is entered read and write; a view moves nothing.

    Args:
        left_out: tensors that are not counted where they are read, such as weights, which a batch reads once.
    """

    def __init__(self, left_out: list[Tensor]) -> None:
        super().__init__()
        self.total = 0
        self._left_out = {tensor.untyped_storage().data_ptr() for tensor in left_out}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        views = [returned.alias_info for returned in func._schema.returns]
        if not any(view is not None and not view.is_write for view in views):
            self.total += self._bytes((args, kwargs)) + self._bytes(result)
        return result

    def _bytes(self, values: Any) -> int:
        tensors = {id(x): x for x in tree_leaves(values) if isinstance(x, Tensor)}
        kept = [x for x in tensors.values() if x.untyped_storage().data_ptr() not in self._left_out]
        return sum(x.numel() * x.element_size() for x in kept)


def traffic(model: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Tensor]) -> int:
    """Bytes of one forward and backward, without weights: what a processor moves that fuses nothing.

    A count, not a reading of the machine; a fused kernel moves less. Torch's own path is counted, since C++ kernels do
    not show what they touch.

    Args:
        model: the model; its random stream, buffers and gradients are as before afterwards.
        batch: what `loss` takes; it is really run.
        loss: a scalar of model and batch.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = ByteCount([*model.parameters(), *model.buffers()])
    with native.switched(False), untouched(model), torch.enable_grad(), count:
        torch.autograd.grad(loss(model, batch), parameters, allow_unused=True)
    return count.total
