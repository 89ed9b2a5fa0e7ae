"""Attention over depth: each token's mixture of its own earlier vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.precision import dot, inverse_rms, uncast, wide

if TYPE_CHECKING:
    from jaxtyping import Float


def depth_attention(
    query: Float[Tensor, "d_model"], sources: Sequence[Float[Tensor, "*tokens d_model"]], eps: float
) -> Float[Tensor, "*tokens d_model"]:
    """The softmax mixture of the sources: `sum_j a_j v_j`, `a = softmax_j(w . RMSNorm(v_j))`.

    The keys are normalised, the values are not. Backward keeps references to the sources and two numbers a source
    and token; a recorded stack of them would keep a copy a site, of a size that grows with depth. Computed in
    float32 (float64 for float64), returned in the sources' precision.

    Args:
        query: `w`.
        sources: the vectors `v_j`; at least one.
        eps: added to the mean square of a key.
    """
    if is_traced():
        return _forward(query, sources, eps)[0]
    return _DepthAttention.apply(query, eps, *sources)


def depth_attention_reference(query: Tensor, sources: Sequence[Tensor], eps: float) -> Tensor:
    """The same, as the formula reads."""
    values = wide(torch.stack(tuple(sources)))
    keys = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + eps)
    with uncast(values):
        weights = torch.einsum("d,s...d->s...", wide(query), keys).softmax(0)
        return torch.einsum("s...,s...d->...d", weights, values).to(sources[0].dtype)


def _rows(tensors: Sequence[Tensor]) -> list[Float[Tensor, "all_tokens d_model"]]:
    """The tokens in one dimension, in float32 (float64 for float64)."""
    return [wide(tensor).reshape(-1, tensor.shape[-1]) for tensor in tensors]


def _forward(query: Tensor, sources: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mixture; and for backward, `[s, all_tokens]`: scores, weights, inverse root mean squares of the sources.

    Source by source: a stack of them would be written once and read several times.
    """
    values, long = _rows(sources), wide(query)
    inverse = torch.stack([inverse_rms(value, eps) for value in values])
    with uncast(long):
        scores = torch.stack([torch.mv(value, long) for value in values]) * inverse
    weights = scores.softmax(0)
    first, *others = weights.unsqueeze(-1).unbind()
    mixture = values[0] * first
    for value, share in zip(values[1:], others, strict=True):
        mixture = torch.addcmul(mixture, value, share)
    return mixture.view(sources[0].shape).to(sources[0].dtype), scores, weights, inverse


def _graph(ctx: Any, grad: Tensor) -> Grads:
    query, _, _, _, *sources = ctx.saved_tensors
    of_query, *found = gradients(
        lambda query, *sources: _forward(query, sources, ctx.eps)[0], [query, *sources], [grad]
    )
    return of_query, None, *found


class _DepthAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, eps: float, *sources: Tensor) -> Tensor:
        mixture, *numbers = _forward(query, sources, eps)
        ctx.eps = eps
        ctx.save_for_backward(query, *numbers, *sources)
        return mixture

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        """With `r = 1 / rms(v)` and the gradient `s` of the scores: `dv = a g + s r w - v s r^2 score / d`."""
        query, scores, weights, inverse, *sources = ctx.saved_tensors
        (grad,), values, long = _rows(grad_outputs), _rows(sources), wide(query)
        through = weights * torch.stack([dot(value, grad) for value in values])
        keys = torch.addcmul(through, weights, through.sum(0), value=-1) * inverse
        along = keys * inverse * scores
        numbers = zip(values, *(t.unsqueeze(-1).unbind() for t in (weights, keys, along)), strict=True)
        found = [(a * grad).addcmul_(value, e, value=-1 / len(long)).addcmul_(k, long) for value, a, k, e in numbers]
        with uncast(grad):
            of_query = [torch.mv(value.t(), k) for value, k in zip(values, keys.unbind(), strict=True)]
        grad_query = torch.stack(of_query).sum(0).to(query.dtype)
        shape, dtype = sources[0].shape, sources[0].dtype
        return grad_query, None, *(one.view(shape).to(dtype) for one in found)
