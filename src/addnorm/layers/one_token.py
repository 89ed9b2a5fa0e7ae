"""The step of decoding: sublayers of one new token a row, without a gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels.decoding import Cached, attend, feed, takes
from addnorm.kernels.precision import wide
from addnorm.layers.linear import Linear
from addnorm.layers.position import frequencies

if TYPE_CHECKING:
    from jaxtyping import Float

    from addnorm.layers.attention import Attention
    from addnorm.layers.context import Context
    from addnorm.layers.feedforward import FeedForward
    from addnorm.layers.views import Views

MOST_ROWS = 4
"""Rows up to which a step is bound by reading the weights; torch's products of matrices are better at more."""


def attention_of_one(attention: Attention, views: Views, context: Context) -> Float[Tensor, "batch 1 d_model"] | None:
    """What the layer makes of one token a row that meets a cache; None where that is not what came.

    None, too, where something is asked for that the kernel does not do: masks, padding, parts of a scheme, norms of
    heads, another kind of attention, dropout, hooks.
    """
    cache, (rows, tokens, _) = context.cache, views.query.shape
    if cache is None or tokens != 1 or rows > MOST_ROWS or torch.is_grad_enabled():
        return None
    if context.mask is not None or context.keep is not None or attention.kernel != "fused" or len(attention.inside):
        return None
    if attention.training or not isinstance(attention.q_norm, nn.Identity):
        return None
    if context.positions is not None and context.positions.shape != (1,):
        return None
    linears = _bare(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    if linears is None or not takes(views, linears):
        return None
    rotary, before = attention.rotary, cache.length(attention)
    like = views.query.view(rows, 1, 1, -1)[..., :1].expand(-1, attention.num_kv_heads, -1, attention.d_head)
    keys, values = cache.reserve(attention, like)
    cached = Cached(
        keys=keys,
        values=values,
        length=before + 1,
        frequencies=None if rotary is None else _of_turn(rotary.d_head, wide(like[:0]).dtype, rotary.base),
        position=before if context.positions is None else int(context.positions),
    )
    return attend([view[:, 0] for view in views], linears, cached)[:, None]


def feedforward_of_one(layer: FeedForward, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"] | None:
    """What the layer makes of a few tokens; None where more came, or more is asked for than the kernel does."""
    if torch.is_grad_enabled() or layer.training or x.numel() > MOST_ROWS * x.shape[-1] or len(layer.inside):
        return None
    gate = () if layer.gate is None else (layer.gate,)
    linears = _bare(layer.fc1, *gate, layer.fc2)
    if linears is None or x.numel() == 0 or not takes([x], linears):
        return None
    return feed(x.reshape(-1, x.shape[-1]), linears, layer.activation).view(x.shape)


def _bare(*linears: nn.Module) -> list[tuple[Tensor, Tensor | None]] | None:
    """Weights and biases of layers that are nothing but `Linear`; None where one is more."""
    found: list[tuple[Tensor, Tensor | None]] = []
    for linear in linears:
        if type(linear) is not Linear or linear._forward_hooks or linear._forward_pre_hooks:
            return None
        own = linear._parameters  # asking the module itself takes several times as long
        weight = own["weight"]
        assert weight is not None  # a Linear has one
        found.append((weight, own["bias"]))
    return found


@lru_cache(maxsize=64)
def _of_turn(width: int, dtype: torch.dtype, base: float) -> Float[Tensor, "half_head"]:
    return frequencies(width, torch.device("cpu"), dtype, base)
