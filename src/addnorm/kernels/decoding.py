"""The sublayers of decoding: attention and feed-forward of one new token a row, each in one call.

Between two products with weights, every call of torch finds the caches full of weights and its own code gone from
them: an addition of 512 numbers takes 5 microseconds, and 26 after a product (LOG.md). So what decides is how few calls
there are, not what they do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import is_traced

if TYPE_CHECKING:
    from jaxtyping import Float

    Linears = Sequence[tuple[Tensor, Tensor | None]]
    """Weight and bias of each."""

ACTIVATIONS = ("relu", "gelu", "gelu-tanh", "swiglu")
_ADDRESS = ctypes.c_void_p
_OF_ATTEND = (*[_ADDRESS] * 7, ctypes.c_int)
_OF_FEED = (*[_ADDRESS] * 3, ctypes.c_int, _ADDRESS, ctypes.c_int)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cached:
    """A layer's slot of the cache, and where the new token stands.

    Args:
        keys, values: with room for more tokens than there are; changed in place.
        length: tokens in them, the new one included.
        frequencies: of the turn by positions, half as many as a head is wide, in the precision of sums; None: none.
        position: of the new token.
    """

    keys: Float[Tensor, "batch kv_heads room d_head"]
    values: Float[Tensor, "batch kv_heads room d_head"]
    length: int
    frequencies: Float[Tensor, "half_head"] | None
    position: int


def attend(views: Sequence[Float[Tensor, "rows *1 d_model"]], linears: Linears, cached: Cached) -> Tensor:
    """`W_o softmax(q k^T / sqrt(d_head)) v + b_o` over the cached tokens, after the new one is put in its place.

    `q`, `k`, `v` are maps of the three views; query and key are turned: each pair `(x_i, x_{i+d/2})` of a head by
    `position * frequency_i`. Without a gradient; added up in float32 (float64 for float64).

    Args:
        views: what queries, keys and values are made of, one token a row.
        linears: of queries, keys, values and output.
        cached: what came before.
    """
    query, key, value = (view.contiguous() for view in views)
    if native.library("decoding") is None:
        return attend_reference(views, linears, cached)
    run = native.function("decoding", "attend", query.dtype, _OF_ATTEND)
    rows, shared, room, width = cached.keys.shape
    d_model, mixed = query.shape[-1], torch.empty_like(query)
    heads = len(linears[0][0]) // width
    run(
        (_ADDRESS * 3)(*native.addresses(query, key, value)),
        _addresses(linears),
        (ctypes.c_int64 * 8)(rows, d_model, heads, shared, width, room, cached.length, cached.position),
        *native.addresses(cached.frequencies, cached.keys, cached.values, mixed),
        torch.get_num_threads(),
    )
    return mixed


def attend_reference(views: Sequence[Tensor], linears: Linears, cached: Cached) -> Tensor:
    """The same by torch."""
    batch, kv_heads, _, width = cached.keys.shape
    *inner, (weight, bias) = linears
    query, key, value = (F.linear(x, *one).view(batch, -1, width) for x, one in zip(views, inner, strict=True))
    cached.keys[:, :, cached.length - 1] = _turned(key, cached)
    cached.values[:, :, cached.length - 1] = value
    keys, values = cached.keys[:, :, : cached.length], cached.values[:, :, : cached.length]
    query, grouped = _turned(query, cached)[:, :, None], query.shape[1] != kv_heads
    mixed = F.scaled_dot_product_attention(query, keys, values, enable_gqa=grouped)
    return F.linear(mixed.flatten(1), weight, bias).view_as(views[0])


def feed(x: Float[Tensor, "*rows d_model"], linears: Linears, activation: str) -> Float[Tensor, "*rows d_model"]:
    """`W2 act(W1 x)`; SwiGLU: `W2 (silu(Wg x) * W1 x)`; without a gradient.

    Args:
        x: one token a row.
        linears: inner, outer; for SwiGLU inner, gate, outer.
        activation: of `ACTIVATIONS`.
    """
    x, out = x.contiguous(), torch.empty_like(x)
    if native.library("decoding") is None:
        return feed_reference(x, linears, activation)
    run = native.function("decoding", "feed", x.dtype, _OF_FEED)
    gate = linears[1] if len(linears) == 3 else (None, None)
    d_model = x.shape[-1]
    sizes = (ctypes.c_int64 * 3)(x.numel() // d_model, d_model, len(linears[0][0]))
    of_x, of_out = native.addresses(x, out)
    given = _addresses((linears[0], gate, linears[-1]))
    run(of_x, given, sizes, ACTIVATIONS.index(activation), of_out, torch.get_num_threads())
    return out


def feed_reference(x: Tensor, linears: Linears, activation: str) -> Tensor:
    """The same by torch."""
    inner = F.linear(x, *linears[0])
    if activation == "swiglu":
        return F.linear(F.silu(F.linear(x, *linears[1])) * inner, *linears[2])
    if activation == "relu":
        return F.linear(F.relu(inner), *linears[1])
    return F.linear(F.gelu(inner, approximate="tanh" if activation == "gelu-tanh" else "none"), *linears[1])


def takes(views: Sequence[Tensor], linears: Linears) -> bool:
    """Whether the C++ kernels can take these: no gradient is wanted, weights lie in order, all of one precision."""
    if torch.is_grad_enabled() or is_traced() or torch.is_autocast_enabled("cpu"):
        return False
    if views[0].shape[-1] != linears[0][0].shape[1] or not native.takes(*views) or native.library("decoding") is None:
        return False
    dtype = views[0].dtype
    for pair in linears:  # written out: this is asked before every sublayer of every token
        for one in pair:
            if one is None:
                continue
            if one.dtype != dtype or not one.is_contiguous() or not native.has_address(one):
                return False
    return True


def _addresses(linears: Sequence[tuple[Tensor | None, Tensor | None]]) -> ctypes.Array[ctypes.c_void_p]:
    found = native.addresses(*(one for pair in linears for one in pair))
    return (_ADDRESS * len(found))(*found)


def _turned(x: Float[Tensor, "batch heads d_head"], cached: Cached) -> Tensor:
    if cached.frequencies is None:
        return x
    angles = cached.position * cached.frequencies
    first, second = x.to(angles.dtype).chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
