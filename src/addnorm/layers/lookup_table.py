"""A table of learned vectors, one an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.kernels.native import has_address

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_WIDE = (torch.float32, torch.float64)


class LookupTable(nn.Embedding):
    """`E[id]`, whose gradient is added up in float32 whatever the precision of `E`.

    On a CPU torch adds the gradient of `embedding` up in the table's own precision: in bfloat16 the sum of ones stops
    at 256, so that what is frequent hardly learns. `index_select` adds in float32 and rounds once.

    Args:
        num_embeddings: ids go from 0 to one less.
        embedding_dim: width of the vectors.
        what: an id is called in errors.
        rest: what else `nn.Embedding` takes.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, what: str = "id", **rest: Any) -> None:
        super().__init__(num_embeddings, embedding_dim, **rest)
        self.what = what

    def forward(self, input: Int[Tensor, "*ids"]) -> Float[Tensor, "*ids width"]:
        """The vectors of the ids.

        Raises:
            UserError: the table has no entry of an id.
        """
        weight = self.weight
        try:
            if weight.dtype in _WIDE or not has_address(weight):
                return super().forward(input)
            if torch.compiler.is_compiling():  # inductor adds gradients up in the precision of what rows are taken from
                return weight.float()[input].to(weight.dtype)
            return weight.index_select(0, input.flatten()).view(*input.shape, weight.shape[1])
        except IndexError as error:
            outside = input[(input < 0) | (input >= len(weight))]
            if not outside.numel():
                raise
            raise UserError(
                f"{self.what} {int(outside[0])} came, and the model has {len(weight)}, 0 to {len(weight) - 1}; "
                "give ids of these, as the tokenizer of the model makes them, or build the model with more."
            ) from error
