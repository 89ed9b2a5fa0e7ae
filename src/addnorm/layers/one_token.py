"""The step of decoding: sublayers of one new token a row, without a gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels.decoding import Cached, attend, feed, takes
from addnorm.layers.position import Rotary, frequencies
from addnorm.layers.watched import is_only

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

    None, too, where something is asked for that the kernel does not do (masks, padding, parts of a scheme, norms of
    heads, another kind of attention, dropout, hooks), and where the cache has no room and must grow.
    """
    cache, (rows, tokens, _) = context.cache, views.query.shape
    if cache is None or tokens != 1 or rows > MOST_ROWS or torch.is_grad_enabled():
        return None
    if context.mask is not None or context.keep is not None or attention.kernel != "fused" or len(attention.inside):
        return None
    if attention.training or not all(is_only(norm, nn.Identity) for norm in (attention.q_norm, attention.k_norm)):
        return None
    if attention.rotary is not None and not is_only(attention.rotary, Rotary):
        return None
    position = cache.length(attention) if context.positions is None else context.only_position
    linears = _bare(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    if position is None or linears is None or not takes(views, linears):
        return None
    slot = cache.room_for_one(attention, rows, views.query.dtype)
    if slot is None:
        return None
    rotary = attention.rotary
    cached = Cached(
        keys=slot[0],
        values=slot[1],
        length=cache.length(attention),
        frequencies=None if rotary is None else _of_turn(rotary.d_head, views.query.dtype, rotary.base),
        position=position,
    )
    return attend(views, linears, cached)


def feedforward_of_one(layer: FeedForward, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"] | None:
    """What the layer makes of a few tokens; None where more came, or more is asked for than the kernel does."""
    if torch.is_grad_enabled() or layer.training or x.numel() > MOST_ROWS * x.shape[-1] or len(layer.inside):
        return None
    gate = () if layer.gate is None else (layer.gate,)
    linears = _bare(layer.fc1, *gate, layer.fc2)
    if linears is None or x.numel() == 0 or not takes([x], linears):
        return None
    return feed(x, linears, layer.activation)


def _bare(*linears: nn.Module) -> list[tuple[Tensor, Tensor | None]] | None:
    """Weights and biases of layers that are nothing but `nn.Linear`; None where one is more."""
    found: list[tuple[Tensor, Tensor | None]] = []
    for linear in linears:
        if not is_only(linear, nn.Linear):
            return None
        own = linear._parameters  # asking the module itself takes several times as long
        weight = own["weight"]
        if weight is None:  # somebody computes it elsewhere
            return None
        found.append((weight, own["bias"]))
    return found


@lru_cache(maxsize=64)
def _of_turn(width: int, dtype: torch.dtype, base: float) -> Float[Tensor, "half_head"]:
    """In the precision of the kernel's sums."""
    long = torch.float64 if dtype == torch.float64 else torch.float32
    return frequencies(width, torch.device("cpu"), long, base)
