"""Attention of bfloat16 vectors computed in float32, where the processor has no bfloat16 arithmetic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import linear_routes
from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.linear import FEW
from addnorm.kernels.native import has_address
from addnorm.kernels.precision import uncast

if TYPE_CHECKING:
    from jaxtyping import Float

_FORWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_BACKWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


def attention_fits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether these would be attended to in bfloat16, and float32 is this machine's route for it."""
    if is_traced() or _FORWARD is None or _BACKWARD is None or query.shape[2] < FEW:
        return False
    cast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if cast else query.dtype
    same = query.shape == key.shape == value.shape and (cast or query.dtype == key.dtype == value.dtype)
    if not same or dtype != torch.bfloat16 or not has_address(query, key, value):
        return False
    return linear_routes.current(dtype) == "float32"


def wide_attention(
    query: Float[Tensor, "batch heads tokens d_head"],
    key: Float[Tensor, "batch heads tokens d_head"],
    value: Float[Tensor, "batch heads tokens d_head"],
    *,
    causal: bool,
) -> Float[Tensor, "batch heads tokens d_head"]:
    """`softmax(q k^T / sqrt(d_head)) v` of vectors rounded to bfloat16, in float32, rounded once.

    Dao et al. 2022, arXiv:2205.14135, as torch has it for CPUs. Backward keeps what torch's bfloat16 attention keeps.

    Args:
        query, key, value: of one shape.
        causal: forbid keys after the query.
    """
    return _WideAttention.apply(query, key, value, causal)


def wide_attention_reference(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """The same through torch's entrance and autograd."""
    q, k, v = (one.to(torch.bfloat16).float() for one in (query, key, value))
    with uncast(query):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).to(torch.bfloat16)


def _by_formula(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """Without torch's kernel, whose own backward has no graph."""
    q, k, v = (one.to(torch.bfloat16).float() for one in (query, key, value))
    with uncast(query):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        return (scores.softmax(-1) @ v).to(torch.bfloat16)


def _graph(ctx: Any, grad: Tensor) -> Grads:
    given = ctx.saved_tensors[:3]
    return *gradients(partial(_by_formula, causal=ctx.causal), given, [grad]), None


class _WideAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        rounded = [one.to(torch.bfloat16) for one in (query, key, value)]
        assert _FORWARD is not None  # it fits
        with uncast(query):
            mixed, normaliser = _FORWARD(*(one.float() for one in rounded), 0.0, causal)
        mixed = mixed.to(torch.bfloat16)
        ctx.save_for_backward(query, key, value, mixed, normaliser)
        ctx.causal = causal
        return mixed

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        *given, mixed, normaliser = ctx.saved_tensors
        rounded = (one.to(torch.bfloat16) for one in given)
        wide = [one.float() for one in (grad_outputs[0], *rounded, mixed)]
        assert _BACKWARD is not None
        with uncast(normaliser):
            found = _BACKWARD(*wide, normaliser, 0.0, ctx.causal)
        return *(one.to(like.dtype) for one, like in zip(found, given, strict=True)), None
