"""Sinkhorn-Knopp: a positive matrix made doubly stochastic by normalising columns and rows in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once

if TYPE_CHECKING:
    from jaxtyping import Float


def sinkhorn(logits: Float[Tensor, "n n *tokens"], iterations: int = 20) -> Float[Tensor, "n n *tokens"]:
    """The doubly stochastic matrix of each token: `M <- exp(logits)`, then `M <- T_r(T_c(M))`, `iterations` times.

    `T_c` divides each column by its sum, `T_r` each row. The last step is over rows: rows sum to 1 to rounding,
    columns as nearly as the iterations bring them. Sinkhorn and Knopp 1967, doi:10.2140/pjm.1967.21.343.

    The tokens come last, so that the sum of a row or a column adds contiguous vectors. Backward keeps the sums, `2 n`
    numbers a token and iteration, and undoes the steps with them. Rows and columns that `exp` would overflow or
    underflow to zero stay finite.

    Args:
        logits: one matrix a token; rows first.
        iterations: how often columns and rows are normalised; at least 1.
    """
    if is_traced():
        return sinkhorn_traced(logits, iterations)
    return _Sinkhorn.apply(logits, iterations)


def sinkhorn_reference(logits: Float[Tensor, "n n *tokens"], iterations: int = 20) -> Tensor:
    """The same, written as in the paper."""
    matrix = logits.exp()
    for _ in range(iterations):
        matrix = matrix / matrix.sum(0, keepdim=True)
        matrix = matrix / matrix.sum(1, keepdim=True)
    return matrix


def sinkhorn_forward(logits: Tensor, iterations: int) -> tuple[Tensor, list[Tensor]]:
    """The last matrix, each step written over the one before; and what each step but the first divided by."""
    matrix, sums = _first_step(logits), []
    for half in range(1, 2 * iterations):
        sums.append(matrix.sum(half % 2, keepdim=True))
        matrix.div_(sums[-1])
    return matrix, sums


def sinkhorn_backward(matrix: Tensor, sums: Sequence[Tensor], grad: Tensor) -> Tensor:
    """The logits' gradient: with `g = dL/dlog M` a step `M' = M / s` gives `g <- g - M' sum(g)`; and `M = M' s`."""
    matrix = matrix.clone()
    grad = grad.contiguous() * matrix
    for half in range(len(sums), 0, -1):
        grad.addcmul_(matrix, grad.sum(half % 2, keepdim=True), value=-1)
        matrix.mul_(sums[half - 1])
    return grad.addcmul_(matrix, grad.sum(0, keepdim=True), value=-1)


def sinkhorn_traced(logits: Tensor, iterations: int) -> Tensor:
    """The forward out of place, for the compiler: equal to the bit."""
    matrix = _first_step(logits)
    for half in range(1, 2 * iterations):
        matrix = matrix / matrix.sum(half % 2, keepdim=True)
    return matrix


def _first_step(logits: Tensor) -> Tensor:
    """`T_c(exp(logits))` without overflow."""
    return logits.softmax(0).clamp_min(torch.finfo(logits.dtype).tiny)


def _graph(ctx: Any, grad: Tensor) -> Grads:
    logits, *_ = ctx.saved_tensors
    return *gradients(lambda logits: sinkhorn_traced(logits, ctx.iterations), [logits], [grad]), None


class _Sinkhorn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, iterations: int) -> Tensor:
        matrix, sums = sinkhorn_forward(logits, iterations)
        ctx.iterations = iterations
        ctx.save_for_backward(logits, matrix, *sums)
        return matrix

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        _, matrix, *sums = ctx.saved_tensors
        return sinkhorn_backward(matrix, sums, grad_outputs[0]), None
