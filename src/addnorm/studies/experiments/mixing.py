"""Random mixing matrices of several streams and their products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.kernels.sinkhorn import sinkhorn
from addnorm.layers.initialise import generator_for

if TYPE_CHECKING:
    from jaxtyping import Float


def drawn(seed: int, place: int, streams: int, copies: int) -> Float[Tensor, "copies n n"]:
    """Standard normal numbers for the matrices at one place in the depth, in float64."""
    generator = generator_for(seed, f"claims/mixing/{place}")
    return torch.randn(copies, streams, streams, generator=generator, dtype=torch.float64)


def balanced(logits: Float[Tensor, "copies n n"], iterations: int = 20) -> Float[Tensor, "copies n n"]:
    """Doubly stochastic as mHC makes them."""
    return sinkhorn(logits.permute(1, 2, 0), iterations).permute(2, 0, 1)


def gain(matrices: Float[Tensor, "copies n n"]) -> float:
    """The largest absolute sum of a row (what a forward can amplify) or of a column (a backward), over all copies."""
    sums = [matrices.abs().sum(side).max() for side in (-1, -2)]
    return float(torch.stack(sums).max())
