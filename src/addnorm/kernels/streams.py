"""Reading from several streams, mixing them, and adding an update to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.precision import uncast, wide

if TYPE_CHECKING:
    from jaxtyping import Float


def read_streams(
    streams: Float[Tensor, "*tokens n d_model"], weights: Float[Tensor, "*tokens n"]
) -> Float[Tensor, "*tokens d_model"]:
    """One weighted sum of the streams: `sum_i w_i X_i`, added up in the weights' precision, returned in the streams'.

    Args:
        streams: the state `X`.
        weights: one number a stream.
    """
    return (weights.unsqueeze(-1) * streams).sum(-2).to(streams.dtype)


def mix_streams(
    streams: Float[Tensor, "*tokens n d_model"], weights: Float[Tensor, "*tokens m n"]
) -> Float[Tensor, "*tokens m d_model"]:
    """Several weighted sums of the streams at once: `Z = W X`.

    Added up in the weights' precision, returned in the streams'.

    Args:
        streams: the state `X`.
        weights: a matrix a token; a row for each sum.
    """
    if is_traced():
        return mix_forward(streams, weights)
    return _MixStreams.apply(streams, weights)


def mix_streams_reference(streams: Tensor, weights: Tensor) -> Tensor:
    """The same, sum by sum."""
    rows = [(row.unsqueeze(-1) * streams).sum(-2) for row in weights.unbind(-2)]
    return torch.stack(rows, dim=-2).to(streams.dtype)


def add_update(
    streams: Float[Tensor, "*tokens n d_model"],
    update: Float[Tensor, "*tokens d_model"],
    gains: Float[Tensor, "*tokens n"],
) -> Float[Tensor, "*tokens n d_model"]:
    """The update added to each stream with its gain: `X_i + w_i y`, in the gains' precision, returned in the streams'.

    Args:
        streams: `X`, mixed already where the scheme mixes.
        update: the sublayer's output `y`.
        gains: `w`.
    """
    added = torch.addcmul(streams.to(gains.dtype), gains.unsqueeze(-1), update.to(gains.dtype).unsqueeze(-2))
    return added.to(streams.dtype)


def write_streams(
    streams: Float[Tensor, "*tokens n d_model"],
    update: Float[Tensor, "*tokens d_model"],
    weights: Float[Tensor, "*tokens n n_plus_1"],
) -> Float[Tensor, "*tokens n d_model"]:
    """The streams mixed and the update added to each: `X'_i = sum_j W_ij X_j + W_in y`.

    Args:
        streams: the state `X`.
        update: the sublayer's output `y`.
        weights: a matrix a token: the mixing, with the update's gains as its last column.
    """
    return add_update(mix_streams(streams, weights[..., :-1]), update, weights[..., -1])


def mix_forward(streams: Tensor, weights: Tensor) -> Tensor:
    """`W X`."""
    with uncast(streams):
        # A batch of strided 4 x 4 matrices costs 20 times as much.
        mixed = torch.bmm(_batch(weights.contiguous()), _batch(streams.to(weights.dtype)))
    return mixed.view(*weights.shape[:-1], streams.shape[-1]).to(streams.dtype)


def mix_backward(streams: Tensor, weights: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """`dX = W^T dZ` in the weights' precision, `dW = dZ X^T`."""
    grad, batch = _batch(grad), _batch(streams.to(weights.dtype))
    with uncast(streams):
        grad_streams = torch.bmm(_batch(weights).mT, grad)
        # The transposed streams are copied: a product of two strided batches takes four times as long.
        grad_weights = torch.bmm(grad, batch.mT.contiguous())
    return grad_streams.view(streams.shape), grad_weights.view(weights.shape)


def _batch(matrices: Float[Tensor, "*tokens rows columns"]) -> Float[Tensor, "all_tokens rows columns"]:
    return matrices.reshape(-1, *matrices.shape[-2:])


def _graph(ctx: Any, grad: Tensor) -> Grads:
    return gradients(mix_forward, ctx.saved_tensors, [grad])


class _MixStreams(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, streams: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(streams, weights)
        return mix_forward(streams, weights)

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        streams, weights = ctx.saved_tensors
        grad_streams, grad_weights = mix_backward(streams, weights, wide(grad_outputs[0]))
        return grad_streams.to(streams.dtype), grad_weights
