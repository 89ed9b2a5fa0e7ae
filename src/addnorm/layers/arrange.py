"""How sublayers share a residual connection: side by side, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from addnorm.layers.inside import Inside
from addnorm.layers.sublayer import built_for, stream_weights, value_paths

if TYPE_CHECKING:
    from jaxtyping import Float


class Parallel(nn.Module):
    """Sublayers that read the same input and whose outputs are added: `F_1(x) + F_2(x)`, as in GPT-J and PaLM.

    Chowdhery et al. 2022, arXiv:2204.02311.
    """

    def __init__(self, sublayers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.sublayers = nn.ModuleList(sublayers)
        first, *others = map(built_for, sublayers)
        self.built_for = first if all(other == first for other in others) else Inside()

    def value_paths(self) -> list[tuple[nn.Linear, ...]]:
        """Those of all the sublayers."""
        return [path for sublayer in self.sublayers for path in value_paths(sublayer)]

    def stream_weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Those of all the sublayers; what passes between composed ones is a vector as wide as the stream."""
        rows, columns = zip(*map(stream_weights, self.sublayers), strict=True)
        return sum(rows, []), sum(columns, [])

    def forward(self, x: Float[Tensor, "*tokens d_model"], *context: Any) -> Float[Tensor, "*tokens d_model"]:
        """The sum of the sublayers' outputs."""
        first, *others = (sublayer(x, *context) for sublayer in self.sublayers)
        return sum(others, start=first)


class Composed(Parallel):
    """Sublayers one after the other under a single connection: `F_2(F_1(x))`."""

    def value_paths(self) -> list[tuple[nn.Linear, ...]]:
        """One path through all of them: only the last output projection writes to the residual stream."""
        path = tuple(linear for path in super().value_paths() for linear in path)
        return [path] if path else []

    def forward(self, x: Float[Tensor, "*tokens d_model"], *context: Any) -> Float[Tensor, "*tokens d_model"]:
        """The last sublayer's output."""
        for sublayer in self.sublayers:
            x = sublayer(x, *context)
        return x
