"""Sinkhorn-Knopp as DeepSeek-V4 has it: from a softmax, with a small number added to every entry and every sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once

if TYPE_CHECKING:
    from jaxtyping import Float


def sinkhorn_with_eps(logits: Float[Tensor, "rows columns *tokens"], iterations: int = 20, eps: float = 1e-6) -> Tensor:
    """The nearly doubly stochastic matrix of each token: `M <- softmax_rows(logits) + eps`, then columns and rows.

    A normalisation divides by the sum plus eps: columns once, then `iterations - 1` times rows and columns. Columns
    are last, so it is their sums that are 1, less about eps.

    As in `sinkhorn`, the tokens come last, and backward repeats the iterations instead of keeping their matrices.

    Args:
        logits: one matrix a token; rows first.
        iterations: how often columns are normalised; at least 1.
        eps: above 0.
    """
    if is_traced():
        return _traced(logits, iterations, eps)
    return _SinkhornWithEps.apply(logits, iterations, eps)


def sinkhorn_with_eps_reference(logits: Tensor, iterations: int = 20, eps: float = 1e-6) -> Tensor:
    """The same, one step after the other."""
    matrix = logits.softmax(1) + eps
    matrix = matrix / (matrix.sum(0, keepdim=True) + eps)
    for _ in range(iterations - 1):
        matrix = matrix / (matrix.sum(1, keepdim=True) + eps)
        matrix = matrix / (matrix.sum(0, keepdim=True) + eps)
    return matrix


def _traced(logits: Tensor, iterations: int, eps: float) -> Tensor:
    """The forward out of place, for the compiler."""
    matrix = logits.softmax(1) + eps
    for step in range(2 * iterations - 1):
        matrix = matrix / (matrix.sum(step % 2, keepdim=True) + eps)
    return matrix


def _graph(ctx: Any, grad: Tensor) -> Grads:
    return *gradients(lambda logits: _traced(logits, ctx.iterations, ctx.eps), ctx.saved_tensors, [grad]), None, None


class _SinkhornWithEps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, iterations: int, eps: float) -> Tensor:
        ctx.iterations, ctx.eps = iterations, eps
        ctx.save_for_backward(logits)
        matrix = logits.softmax(1).add_(eps)
        for step in range(2 * iterations - 1):
            matrix.div_(matrix.sum(step % 2, keepdim=True).add_(eps))
        return matrix

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        """With `g = dL/dlog M`, `M' = M / (sum(M) + eps)` gives `g <- g - M' sum(g)`: eps is in `M'` alone."""
        (logits,) = ctx.saved_tensors
        softmax = logits.softmax(1)
        steps = [softmax + ctx.eps]
        for step in range(2 * ctx.iterations - 1):
            steps.append(steps[-1] / (steps[-1].sum(step % 2, keepdim=True) + ctx.eps))
        grad = grad_outputs[0].contiguous() * steps[-1]
        for step in reversed(range(2 * ctx.iterations - 1)):
            grad.addcmul_(steps[step + 1], grad.sum(step % 2, keepdim=True), value=-1)
        grad.div_(steps[0]).mul_(softmax)
        return grad.addcmul_(softmax, grad.sum(1, keepdim=True), value=-1), None, None
