"""A linear layer that takes the fastest exact route of its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from addnorm.kernels.linear import linear

if TYPE_CHECKING:
    from jaxtyping import Float


class Linear(nn.Linear):
    """`W x + b` as `torch.nn.Linear`, through `addnorm.kernels.linear`."""

    def forward(self, input: Float[Tensor, "*tokens inputs"]) -> Float[Tensor, "*tokens outputs"]:
        """Each token alone."""
        return linear(input, self.weight, self.bias)
