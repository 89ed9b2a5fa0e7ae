"""What an mHC connection does before its sublayer: all coefficients, the read and the mixing, in one operation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.normed_projection import normed_projection_reference, projection_backward, projection_forward
from addnorm.kernels.precision import wide
from addnorm.kernels.sinkhorn import sinkhorn_backward, sinkhorn_forward, sinkhorn_reference, sinkhorn_traced
from addnorm.kernels.streams import mix_backward, mix_forward, mix_streams_reference

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What is not learned: the iterations of Sinkhorn-Knopp, and the eps of RMSNorm."""

    iterations: int
    eps: float


def mhc_read(
    streams: Float[Tensor, "*tokens n d_model"],
    phi: Float[Tensor, "n_n_plus_2n n_d_model"],
    scale: Float[Tensor, "n_n_plus_2n"],
    bias: Float[Tensor, "n_n_plus_2n"],
    numbers: Numbers,
) -> tuple[Float[Tensor, "*tokens d_model"], Float[Tensor, "*tokens n d_model"], Float[Tensor, "*tokens n"]]:
    """The read `H_pre X`; and for the write `H_res X` and `H_post`. Coefficients are float32 (float64 for float64).

        H_pre = sigmoid(a_pre x~ phi_pre + b_pre),  H_post = 2 sigmoid(a_post x~ phi_post + b_post)
        H_res = Sinkhorn(exp(a_res mat(x~ phi_res) + b_res)),  x~ = RMSNorm(vec(X))

    Equations 7 and 8 of Xie et al. 2025, arXiv:2512.24880. Read and mixing are one product, `[H_pre; H_res] X`.

    Args:
        streams: the state `X`.
        phi: the projections: `n` rows for `H_pre`, `n` for `H_post`, `n^2` for `H_res` row by row.
        scale: `a`, a factor for each row.
        bias: in the order of `phi`.
        numbers: what is not learned.
    """
    if is_traced():
        return _traced(streams, phi, scale, bias, numbers)
    return _MHCRead.apply(streams, phi, scale, bias, numbers)


def scale_of_rows(alpha: Float[Tensor, "3"], n: int) -> Float[Tensor, "n_n_plus_2n"]:
    """The factor of each row of the projections, from those of the three; no numbers come from the host's memory."""
    return torch.cat([one.expand(rows) for one, rows in zip(alpha.unbind(), (n, n, n * n), strict=True)])


def mhc_read_reference(
    streams: Tensor, phi: Tensor, scale: Tensor, bias: Tensor, numbers: Numbers
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, one equation after the other."""
    n, tokens = streams.shape[-2], streams.shape[:-2]
    projected = normed_projection_reference(_flat(streams), phi, numbers.eps)
    pre, post, res = (scale[:, None] * projected + bias[:, None]).split([n, n, n * n])
    mixing = sinkhorn_reference(res.unflatten(0, (n, n)), numbers.iterations).movedim(-1, 0)
    read = mix_streams_reference(streams, torch.sigmoid(pre).mT.reshape(*tokens, 1, n)).squeeze(-2)
    mixed = mix_streams_reference(streams, mixing.reshape(*tokens, n, n))
    return read, mixed, 2 * torch.sigmoid(post).mT.reshape(*tokens, n)


def _traced(
    streams: Tensor, phi: Tensor, scale: Tensor, bias: Tensor, numbers: Numbers
) -> tuple[Tensor, Tensor, Tensor]:
    projected, _ = projection_forward(_flat(streams), phi, numbers.eps)
    gates, logits = _split(torch.addcmul(bias[:, None], projected, scale[:, None]), streams)
    gates = gates.sigmoid()
    weights = _matrices(gates, sinkhorn_traced(logits, numbers.iterations), streams)
    return _outcome(streams, weights, gates)


def _flat(streams: Tensor) -> Float[Tensor, "all_tokens n_d_model"]:
    """The streams of a token one after the other, the tokens in one dimension."""
    return streams.reshape(-1, streams.shape[-2] * streams.shape[-1])


def _split(rows: Tensor, streams: Tensor) -> tuple[Tensor, Tensor]:
    """The rows for `H_pre` and `H_post` together, and those for `H_res` as matrices; the tokens stay last."""
    n = streams.shape[-2]
    gates, res = rows.split([2 * n, n * n])
    return gates, res.unflatten(0, (n, n))


def _matrices(gates: Tensor, mixing: Tensor, streams: Tensor) -> Float[Tensor, "*tokens n_plus_1 n"]:
    """`[H_pre; H_res]`, the tokens first, in memory too: the product takes one matrix a token."""
    n = streams.shape[-2]
    weights = torch.cat((gates[:n].unsqueeze(0), mixing))
    return weights.movedim(-1, 0).contiguous().view(*streams.shape[:-2], n + 1, n)


def _outcome(streams: Tensor, weights: Tensor, gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The read, the mixed streams, and the gains of the update."""
    n = streams.shape[-2]
    read, mixed = mix_forward(streams, weights).split([1, n], dim=-2)
    # Copied: whoever keeps the read for backward would keep the mixed streams in the same memory.
    post = gates[n:].t()
    return read.squeeze(-2).contiguous(), mixed, (post + post).view(streams.shape[:-1])


def _graph(ctx: Any, *grad_outputs: Tensor) -> Grads:
    inputs = ctx.saved_tensors[:4]
    return *gradients(partial(_traced, numbers=ctx.numbers), inputs, grad_outputs), None


class _MHCRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, phi: Tensor, scale: Tensor, bias: Tensor, numbers: Numbers
    ) -> tuple[Tensor, Tensor, Tensor]:
        projected, inverse = projection_forward(_flat(streams), phi, numbers.eps)
        gates, logits = _split(torch.addcmul(bias[:, None], projected, scale[:, None]), streams)
        gates = gates.sigmoid()
        mixing, sums = sinkhorn_forward(logits, numbers.iterations)
        weights = _matrices(gates, mixing, streams)
        ctx.numbers = numbers
        ctx.save_for_backward(streams, phi, scale, bias, projected, inverse, gates, weights, mixing, *sums)
        return _outcome(streams, weights, gates)

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        """Through the product, the nonlinearities, the scaling and the projection, in this order."""
        streams, phi, scale, bias, projected, inverse, gates, weights, mixing, *sums = ctx.saved_tensors
        n = streams.shape[-2]
        grad_read, grad_mixed, grad_post = (wide(grad) for grad in grad_outputs)
        grad_streams, grad_weights = mix_backward(
            streams, weights, torch.cat((grad_read.unsqueeze(-2), grad_mixed), dim=-2)
        )
        of_matrices = grad_weights.view(-1, n + 1, n).movedim(0, -1)
        grad_post = grad_post.reshape(-1, n).t()
        slope = torch.addcmul(gates, gates, gates, value=-1)  # g - g^2, of a sigmoid
        of_gates = torch.cat((of_matrices[0], grad_post + grad_post)) * slope
        grad = torch.cat((of_gates, sinkhorn_backward(mixing, sums, of_matrices[1:]).flatten(0, 1)))
        grad_streams, grad_phi = projection_backward(
            _flat(streams), phi, projected, inverse, grad * scale[:, None], onto=_flat(grad_streams)
        )
        grad_scale, grad_bias = (grad * projected).sum(1).to(scale.dtype), grad.sum(1).to(bias.dtype)
        return grad_streams.view_as(streams).to(streams.dtype), grad_phi.to(phi.dtype), grad_scale, grad_bias, None
