"""Token positions: sinusoidal and learned (added to the embedding), rotary (turning queries and keys)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.kernels.rotary import turned
from addnorm.layers.lookup_table import LookupTable

if TYPE_CHECKING:
    from jaxtyping import Float, Int

PositionKind = Literal["rotary", "learned", "sinusoidal", "none"]


class SinusoidalPosition(nn.Module):
    """Fixed positions added to the embedding: `sin(p / 10000^(2i/d))` and `cos` of the same, interleaved.

    Vaswani et al. 2017, arXiv:1706.03762.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise UserError(f"d_model={d_model} is odd; sinusoidal positions need an even width.")
        self.d_model = d_model

    def forward(self, positions: Int[Tensor, "*tokens"], dtype: torch.dtype) -> Float[Tensor, "*tokens d_model"]:
        """The position vectors, computed in float32 (float64 for float64)."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        angles = positions[..., None].to(wide) * frequencies(self.d_model, positions.device, wide)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(dtype)


class LearnedPosition(nn.Module):
    """A learned vector a position, added to the embedding."""

    def __init__(self, max_tokens: int, d_model: int) -> None:
        super().__init__()
        self.table = LookupTable(max_tokens, d_model, "position")

    def forward(self, positions: Int[Tensor, "*tokens"], dtype: torch.dtype) -> Float[Tensor, "*tokens d_model"]:
        """The position vectors."""
        return self.table(positions).to(dtype)


def added_position(kind: str, count: int, d_model: int) -> LearnedPosition | SinusoidalPosition | None:
    """What is added to the embedding for positions of a kind; None where nothing is.

    Args:
        kind: a `PositionKind`.
        count: of positions, which a table of learned ones holds.
        d_model: the width.
    """
    if kind == "learned":
        return LearnedPosition(count, d_model)
    return SinusoidalPosition(d_model) if kind == "sinusoidal" else None


class Rotary(nn.Module):
    """Rotary positions: each pair `(x_i, x_{i+d/2})` of a head is turned by `position * base^(-2i/d)`.

    Su et al. 2021, arXiv:2104.09864; halves are paired as in GPT-NeoX and Llama.
    The paper's base is 10000; Llama 3 and others have larger ones.
    """

    def __init__(self, d_head: int, base: float = 10000.0) -> None:
        super().__init__()
        if d_head % 2:
            raise UserError(f"a head width of {d_head} is odd; rotary positions need an even d_model / num_heads.")
        self.d_head, self.base = d_head, base

    def forward(
        self,
        query: Float[Tensor, "batch heads tokens d_head"],
        key: Float[Tensor, "batch kv_heads tokens d_head"],
        positions: Int[Tensor, "*batch tokens"],
    ) -> tuple[Float[Tensor, "batch heads tokens d_head"], Float[Tensor, "batch kv_heads tokens d_head"]]:
        """The same vectors, turned."""
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        angles = positions[..., None].to(wide) * frequencies(self.d_head, query.device, wide, self.base)
        query, key = turned(angles, query, key)
        return query, key


def frequencies(
    width: int, device: torch.device, dtype: torch.dtype, base: float = 10000.0
) -> Float[Tensor, "half_width"]:
    """`base^(-2i/width)`."""
    exponent = torch.arange(0, width, 2, device=device, dtype=dtype) / width
    return torch.exp(exponent * -math.log(base))
