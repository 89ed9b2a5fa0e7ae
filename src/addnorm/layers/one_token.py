"""The step of decoding: sublayers of one new token a row, without a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels.decoding import Cached, attend, feed, takes
from addnorm.layers.linear import maps_of
from addnorm.layers.position import Rotary, frequencies
from addnorm.layers.watched import is_only

if TYPE_CHECKING:
    from jaxtyping import Float

    from addnorm.layers.context import Context
    from addnorm.layers.views import Views

MOST_ROWS = 4
"""Rows up to which a step is bound by reading the weights; torch's products of matrices are better at more."""


def attention_of_one(
    attention: nn.Module, linears: Sequence[nn.Module], rotary: nn.Module | None, views: Views, context: Context
) -> Float[Tensor, "batch 1 d_model"] | None:
    """What the layer makes of one token a row that meets a cache; None where that is not what came.

    None, too, where something is asked for that the kernel does not do (masks, padding, hooks), and where the cache has
    no room and must grow.

    Args:
        attention: softmax attention in evaluation, without parts of a scheme; in the cache it has keys and values.
        linears: its query, key, value and output projections.
        rotary: what turns its queries and keys.
        views: what queries, keys and values are made of.
        context: with the cache.
    """
    cache, (rows, tokens, _) = context.cache, views.query.shape
    if cache is None or tokens != 1 or rows > MOST_ROWS or torch.is_grad_enabled():
        return None
    if context.mask is not None or context.keep is not None:
        return None
    if rotary is not None and not is_only(rotary, Rotary):
        return None
    position, bare = cache.length(attention) if context.positions is None else context.only_position, maps_of(linears)
    if position is None or bare is None or not takes(views, bare):
        return None
    slot = cache.room_for_one(attention, rows, views.query.dtype)
    if slot is None:
        return None
    cached = Cached(
        keys=slot[0],
        values=slot[1],
        length=cache.length(attention),
        frequencies=None if rotary is None else _of_turn(rotary.d_head, views.query.dtype, rotary.base),
        position=position,
    )
    return attend(views, bare, cached)


def feedforward_of_one(
    linears: Sequence[nn.Module], activation: str, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"] | None:
    """What a feed-forward layer in evaluation makes of a few tokens; None where more came, or a linear has hooks.

    Args:
        linears: inner, gate if there is one, outer.
        activation: between them.
        x: the tokens.
    """
    if x.numel() > MOST_ROWS * x.shape[-1]:
        return None
    bare = maps_of(linears)
    return None if bare is None or x.numel() == 0 or not takes([x], bare) else feed(x, bare, activation)


@lru_cache(maxsize=64)
def _of_turn(width: int, dtype: torch.dtype, base: float) -> Float[Tensor, "half_head"]:
    """In the precision of the kernel's sums."""
    long = torch.float64 if dtype == torch.float64 else torch.float32
    return frequencies(width, torch.device("cpu"), long, base)
