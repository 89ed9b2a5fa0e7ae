"""A table of learned vectors, one an id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels.native import has_address

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_WIDE = (torch.float32, torch.float64)


class LookupTable(nn.Embedding):
    """`E[id]`, whose gradient is added up in float32 whatever the precision of `E`.

    On a CPU torch adds the gradient of `embedding` up in the table's own precision: in bfloat16 the sum of ones stops
    at 256, so that what is frequent hardly learns. `index_select` adds in float32 and rounds once.
    """

    def forward(self, input: Int[Tensor, "*ids"]) -> Float[Tensor, "*ids width"]:
        """The vectors of the ids."""
        weight = self.weight
        if weight.dtype in _WIDE or not has_address(weight):
            return super().forward(input)
        if torch.compiler.is_compiling():  # inductor adds gradients up in the precision of what rows are taken from
            return weight.float()[input].to(weight.dtype)
        return weight.index_select(0, input.flatten()).view(*input.shape, weight.shape[1])
