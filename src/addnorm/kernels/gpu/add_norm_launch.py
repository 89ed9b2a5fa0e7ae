"""How the Triton kernels of add and norm are launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.kernels.gpu import choice
from addnorm.kernels.gpu.add_norm_kernels import add_norm_backward, add_norm_forward

if TYPE_CHECKING:
    from addnorm.kernels.norm_of_sum import NormOfSum

HELD = 4096
"""Numbers of a tensor that a program holds if its rows are short."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """What one program holds.

    Args:
        rows: tokens.
        width: the next power of 2 from the width on.
        warps: of 32 threads.
    """

    rows: int
    width: int
    warps: int


def tile(d: int) -> Tile:
    """For a width: 16 to 32 numbers of each tensor a thread."""
    width = 1 << max(d - 1, 0).bit_length()
    rows = min(64, max(1, HELD // width))
    return Tile(rows=rows, width=width, warps=max(4, min(16, rows * width // 1024)))


def forward(
    x: Tensor, y: Tensor | None, parameters: tuple[Tensor, Tensor | None], kind: NormOfSum, results: tuple[Tensor, ...]
) -> None:
    """Fill in the sum, the norm, the means and the inverse deviations.

    Args:
        x, y: the stream and the update, contiguous.
        parameters: weight and bias in float32.
        kind: which norm.
        results: where to write; without an update the sum is left alone.
    """
    d, (weight, bias) = x.shape[-1], parameters
    tokens, form = x.numel() // d, tile(d)
    with torch.cuda.device_of(x):
        add_norm_forward[(-(-tokens // form.rows),)](
            x, x if y is None else y, weight, weight if bias is None else bias, *results, tokens, kind.eps, kind.alpha,
            HAS_UPDATE=y is not None, HAS_BIAS=bias is not None, CENTRED=kind.centred,
            D=d, ROWS=form.rows, WIDTH=form.width, num_warps=form.warps,
        )  # fmt: skip


def backward(
    total: Tensor, weight: Tensor, numbers: tuple[Tensor, Tensor], grads: tuple[Tensor, Tensor | None], kind: NormOfSum
) -> tuple[Tensor, Tensor]:
    """The gradient of the sum; and those of the weight and the bias, one row each.

    Args:
        total: the sum.
        weight: in float32.
        numbers: the means and the inverse deviations.
        grads: of the norm, and of the sum if it was read; contiguous, in the sum's precision.
        kind: which norm.
    """
    d, (of_norm, of_sum) = total.shape[-1], grads
    tokens, form = total.numel() // d, tile(d)
    count = min(-(-tokens // form.rows), choice.programs(total))
    found = torch.empty_like(total)
    partials = torch.empty(count, 2, d, dtype=torch.float32, device=total.device)
    with torch.cuda.device_of(total):
        add_norm_backward[(count,)](
            total, of_norm, of_norm if of_sum is None else of_sum, weight, *numbers, found, partials, tokens,
            HAS_SUM=of_sum is not None, CENTRED=kind.centred,
            D=d, ROWS=form.rows, WIDTH=form.width, num_warps=form.warps,
        )  # fmt: skip
    return found, partials.sum(0)
