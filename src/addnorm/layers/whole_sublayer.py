"""The sublayers of small nets in one call each: what may be taken whole, and the kernels' arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels import whole_attention, whole_feedforward
from addnorm.kernels.whole import is_small
from addnorm.layers.linear import maps_of
from addnorm.layers.position import Rotary, frequencies
from addnorm.layers.watched import is_only

if TYPE_CHECKING:
    from jaxtyping import Float

    from addnorm.layers.context import Context
    from addnorm.layers.views import Views

    Turn = tuple[Float[Tensor, "tokens half_head"], Float[Tensor, "tokens half_head"]]


def attention_whole(
    linears: Sequence[nn.Module], heads: int, rotary: nn.Module | None, views: Views, context: Context
) -> Float[Tensor, "batch tokens d_model"] | None:
    """What softmax attention without parts of a scheme makes of small vectors; None where that is not what came.

    None, too, where something is asked for that the kernel does not do: masks, positions of each row, a cache, hooks.

    Args:
        linears: query, key, value and output projections.
        heads: of queries, keys and values alike.
        rotary: what turns queries and keys.
        views: what queries, keys and values are made of.
        context: causality and padding.
    """
    x = views.query
    if torch.compiler.is_compiling() or not is_small(x) or views.key is not x or views.value is not x:
        return None
    if context.mask is not None or context.cache is not None:
        return None
    if rotary is not None and not is_only(rotary, Rotary):
        return None
    maps, x = maps_of(linears), x.contiguous()
    if maps is None or not whole_attention.fits(x, maps, context.keep):
        return None
    turn = None
    if isinstance(rotary, Rotary) and (turn := _turn(rotary, x, context)) is None:
        return None
    return whole_attention.whole_attention(x, maps, whole_attention.Mixing(heads, context.causal, turn, context.keep))


def feedforward_whole(
    linears: Sequence[nn.Module], activation: str, x: Float[Tensor, "*tokens d_model"]
) -> Float[Tensor, "*tokens d_model"] | None:
    """What a feed-forward layer without parts of a scheme makes of small vectors; None where that is not what came.

    Args:
        linears: inner and outer.
        activation: between them.
        x: the vectors.
    """
    if torch.compiler.is_compiling() or not is_small(x):
        return None
    maps, x = maps_of(linears), x.contiguous()
    if maps is None or not whole_feedforward.fits(x, maps[0], maps[1], activation):
        return None
    return whole_feedforward.whole_feedforward(x, maps[0], maps[1], activation)


def _turn(rotary: Rotary, x: Tensor, context: Context) -> Turn | None:
    """Cosines and sines of the tokens' angles, once a forward; None where each row has positions of its own."""
    positions, key = context.positions, (rotary.d_head, rotary.base, x.dtype, x.shape[1])
    if positions is not None and positions.shape != (x.shape[1],):
        return None
    if key not in context.turns:
        positions = torch.arange(x.shape[1]) if positions is None else positions
        with torch.no_grad():
            angles = positions[:, None].to(x.dtype) * frequencies(rotary.d_head, x.device, x.dtype, rotary.base)
            context.turns[key] = angles.cos(), angles.sin()
    return context.turns[key]
