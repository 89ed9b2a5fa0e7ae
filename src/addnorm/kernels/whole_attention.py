"""A small net's self-attention sublayer in one call, and its backward in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import Grads, gradients, once
from addnorm.kernels.rotary import turned_by
from addnorm.kernels.whole import ADDRESS, NUMBER, POINTER, Map, call, is_small, lies_in_order, takes

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

NAME = "whole_attention"
MOST_TOKENS = 1024
"""Of a row: the scores of a few queries lie in the first caches."""
LEARNED = 8  # weights and biases
_ROLES = ("query", "key", "value", "output")
_MAPS = " ".join(f"{kind}_{role}" for kind in ("weight", "bias") for role in _ROLES)
_ARGUMENTS = native.structure(
    ("batch tokens width heads causal threads", NUMBER),
    (f"x {_MAPS} cosines sines keep queries keys values joined most inverse y", ADDRESS),
    ("grad of_x " + " ".join(f"of_{name}" for name in _MAPS.split()), ADDRESS),
)


class Mixing(NamedTuple):
    """What of a row a token mixes.

    Args:
        heads: of queries, keys and values alike.
        causal: forbid keys after the query.
        turn: cosines and sines of the angle by which each token's pairs of features are turned, `(tokens, d_head / 2)`
            each, in the vectors' precision; None: none are turned.
        keep: which tokens may be attended to, `(batch, tokens)`; None: all.
    """

    heads: int
    causal: bool
    turn: tuple[Float[Tensor, "tokens half_d_head"], Float[Tensor, "tokens half_d_head"]] | None
    keep: Bool[Tensor, "batch tokens"] | None


def whole_attention(
    x: Float[Tensor, "batch tokens d_model"], maps: Sequence[Map], mixing: Mixing
) -> Float[Tensor, "batch tokens d_model"]:
    """`W_o softmax(q k^T / sqrt(d_head)) v + b_o` of what `fits`; `q`, `k`, `v` are maps of `x`, the first two turned.

    Added up in the precision of the vectors. A token that may attend to nothing gets a mixture of zeros. A token's
    result depends on those alone that it may attend to, not on what else is in the batch or on the number of threads.

    Args:
        x: the vectors.
        maps: weight and bias of queries, keys, values and output; None for no bias.
        mixing: what is mixed.
    """
    weights, biases = zip(*maps, strict=True)
    return _Whole.apply(mixing, x, *weights, *biases)


def whole_attention_reference(x: Tensor, maps: Sequence[Map], mixing: Mixing) -> Tensor:
    """The same by torch's operations."""
    query, key, value = (F.linear(x, *one).unflatten(-1, (mixing.heads, -1)).transpose(1, 2) for one in maps[:3])
    if mixing.turn is not None:
        query, key = (turned_by(*mixing.turn, one) for one in (query, key))
    tokens = x.shape[1]
    allowed = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device)
    allowed = allowed.tril() if mixing.causal else allowed
    if mixing.keep is not None:
        allowed = allowed & mixing.keep[:, None, None]
    scores = query @ key.mT / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~allowed, -1e30).softmax(-1) * allowed
    return F.linear((weights @ value).transpose(1, 2).flatten(2), *maps[3])


def fits(x: Tensor, maps: Sequence[Map], keep: Tensor | None) -> bool:
    """Whether there is a kernel for these: vectors of a small net, all of one precision, square maps, real padding."""
    width = x.shape[-1]
    return (
        x.dim() == 3
        and x.shape[1] <= MOST_TOKENS
        and is_small(x)
        and maps[0][0].shape == maps[1][0].shape == maps[2][0].shape == maps[3][0].shape == (width, width)
        and takes(NAME, x, *[one for pair in maps for one in pair])
        and (keep is None or (keep.dtype == torch.bool and keep.shape == x.shape[:2] and lies_in_order(keep)))
    )


def _graph(ctx: Any, grad: Tensor) -> Grads:
    def formula(x: Tensor, *learned: Tensor | None) -> Tensor:
        maps = list(zip(learned[:4], learned[4:], strict=True))
        return whole_attention_reference(x, maps, ctx.mixing)  # pyrefly: ignore[bad-argument-type]

    return None, *gradients(formula, ctx.saved_tensors[: 1 + LEARNED], [grad])


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mixing: Mixing, x: Tensor, *learned: Tensor | None) -> Tensor:
        batch, tokens, width = x.shape
        ctx.mixing, ctx.sizes = mixing, (batch, tokens, width, mixing.heads, mixing.causal)
        queries, keys, values, joined, y = [torch.empty_like(x) for _ in range(5)]
        numbers = batch, mixing.heads, tokens
        kept = queries, keys, values, joined, x.new_empty(numbers), x.new_empty(numbers)
        run = native.function(NAME, "whole_attention_forward", x.dtype, POINTER)
        call(run, _ARGUMENTS, ctx.sizes, (x, *learned, *_of_mixing(mixing)), (*kept, y))
        ctx.save_for_backward(x, *learned, *kept)
        return y

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        saved = ctx.saved_tensors  # asked for once: a checkpoint computes them anew
        given, kept = saved[: 1 + LEARNED], saved[1 + LEARNED :]
        grad = grad_outputs[0].contiguous()
        found = [None if one is None else torch.empty_like(one) for one in given]
        run = native.function(NAME, "whole_attention_backward", grad.dtype, POINTER)
        call(run, _ARGUMENTS, ctx.sizes, (*given, *_of_mixing(ctx.mixing), *kept, None, grad), found)
        return None, *(one if needs else None for one, needs in zip(found, ctx.needs_input_grad[1:], strict=True))


def _of_mixing(mixing: Mixing) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    cosines, sines = mixing.turn or (None, None)
    return cosines, sines, mixing.keep
