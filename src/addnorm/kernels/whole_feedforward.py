"""A small net's feed-forward sublayer in one call, and its backward in another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import Grads, gradients, once
from addnorm.kernels.rebuild import is_rebuilding
from addnorm.kernels.whole import ADDRESS, NUMBER, POINTER, WIDEST, Map, call, is_small, takes

if TYPE_CHECKING:
    from jaxtyping import Float

NAME = "whole_feedforward"
ACTIVATIONS = ("relu", "gelu", "gelu-tanh")
"""In the order of the C++ source."""
_ARGUMENTS = native.structure(
    ("tokens width inner activation threads", NUMBER),
    ("x first first_bias second second_bias hidden slopes y", ADDRESS),
    ("grad of_x of_first of_first_bias of_second of_second_bias", ADDRESS),
)


def whole_feedforward(
    x: Float[Tensor, "*tokens d_model"], first: Map, second: Map, activation: str
) -> Float[Tensor, "*tokens d_model"]:
    """`W2 act(W1 x + b1) + b2` of what `fits`, added up in the precision of the vectors.

    Backward keeps the input, `act(h)` and `act'(h)` of `h = W1 x + b1`; within `rebuilding` `h` instead. A token's
    result does not depend on what other tokens there are, nor on the number of threads.

    Args:
        x: the vectors.
        first, second: weight and bias of each linear; None for no bias.
        activation: one of `ACTIVATIONS`.
    """
    return _Whole.apply(activation, x, *first, *second)


def whole_feedforward_reference(x: Tensor, first: Map, second: Map, activation: str) -> Tensor:
    """The same by torch's operations."""
    inner = F.linear(x, *first)
    if activation == "relu":
        return F.linear(F.relu(inner), *second)
    return F.linear(F.gelu(inner, approximate="tanh" if activation == "gelu-tanh" else "none"), *second)


def fits(x: Tensor, first: Map, second: Map, activation: str) -> bool:
    """Whether there is a kernel for these: vectors of a small net, all of one precision, and such an activation."""
    inner, width = first[0].shape
    return (
        activation in ACTIVATIONS
        and is_small(x)
        and x.shape[-1] == width
        and inner <= 4 * WIDEST
        and second[0].shape == (width, inner)
        and takes(NAME, x, *first, *second)
    )


def _graph(ctx: Any, grad: Tensor) -> Grads:
    def formula(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        return whole_feedforward_reference(x, (w1, b1), (w2, b2), ACTIVATIONS[ctx.sizes[-1]])

    return None, *gradients(formula, ctx.saved_tensors[:5], [grad])


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: str, x: Tensor, *learned: Tensor | None) -> Tensor:
        inner, width = learned[0].shape  # pyrefly: ignore[missing-attribute]
        tokens = x.numel() // width
        ctx.sizes = tokens, width, inner, ACTIVATIONS.index(activation)
        hidden, y = x.new_empty(tokens, inner), torch.empty_like(x)
        slopes = None if is_rebuilding() else torch.empty_like(hidden)
        run = native.function(NAME, "whole_feedforward_forward", x.dtype, POINTER)
        call(run, _ARGUMENTS, ctx.sizes, (x, *learned), (hidden, slopes, y))
        ctx.save_for_backward(x, *learned, hidden, slopes)
        return y

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        given = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        found = [None if one is None else torch.empty_like(one) for one in given[:5]]
        run = native.function(NAME, "whole_feedforward_backward", grad.dtype, POINTER)
        call(run, _ARGUMENTS, ctx.sizes, (*given, None, grad), found)
        return None, *(one if needs else None for one, needs in zip(found, ctx.needs_input_grad[1:], strict=True))
