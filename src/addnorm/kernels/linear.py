"""One entrance to linear maps: the fastest route of this machine among those that are exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.errors import UserError
from addnorm.kernels import linear_routes
from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.kernels.few_rows import few_rows
from addnorm.kernels.linear_routes import onednn
from addnorm.kernels.native import has_address
from addnorm.kernels.precision import uncast

if TYPE_CHECKING:
    from jaxtyping import Float

FEWEST = 4
"""Tokens up to which bfloat16 weights are widened as they are read; in float32 torch's product already reads as fast as
memory gives."""
FEW = 16
"""Tokens below which the weights' reading decides: converting them costs more than a slow product (LOG.md)."""


def linear(
    x: Float[Tensor, "*tokens inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"] | None
) -> Float[Tensor, "*tokens outputs"]:
    """`x W^T + b`, and its backward, by the route of `addnorm.kernels.linear_routes`.

    Every route multiplies numbers of the operands' precision and adds in float32 or better, so they differ in the order
    of additions. Under autocast the operands are rounded to its precision, as in `torch.nn.functional.linear`.

    Args:
        x: the vectors.
        weight, bias: of the map; None for no bias.
    """
    if torch.compiler.is_compiling() or not x.is_cpu or weight.is_meta:
        check_numbers(x, weight)
        return F.linear(x, weight, bias)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if x.dtype == dtype == torch.bfloat16 and x.numel() <= FEWEST * x.shape[-1]:
        return few_rows(x, weight, bias)
    if dtype == torch.float64 or x.numel() < FEW * x.shape[-1]:
        return F.linear(x, weight, bias)
    route = linear_routes.current(dtype)
    if route == "torch" or is_traced() or not has_address(x, weight):
        return F.linear(x, weight, bias)
    if route == "float32" and dtype == torch.bfloat16 and x.dtype != torch.float64:
        return _Widened.apply(x.to(dtype), weight, bias)
    if route == "onednn" and dtype == torch.float32 and x.dtype == weight.dtype == dtype:
        return _OneDNN.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def check_numbers(x: Tensor, weight: Tensor) -> None:
    """Refuse weights that have no numbers yet: torch's own product then gives whatever lies in memory (2.13).

    Raises:
        UserError: the weight is on the meta device and the input is not.
    """
    if weight.is_meta and not x.is_meta:
        raise UserError(
            f"a weight of shape {tuple(weight.shape)} is on the meta device, without numbers, its input on {x.device}; "
            "load it (load_state_dict names what is missing where strict=True), or call to_empty and initialise_."
        )


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same, in float64 and rounded once."""
    exact = x.double() @ weight.double().mT
    return (exact if bias is None else exact + bias.double()).to(x.dtype)


def _graph_of(formula: Callable[..., Tensor]) -> Callable[..., Grads]:
    return lambda ctx, grad: gradients(formula, ctx.saved_tensors, [grad])


def _widened(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).float()
    shift = None if bias is None else bias.to(x.dtype).float()
    with uncast(x):
        y = F.linear(rows, weight.to(x.dtype).float(), shift)
    return y.to(x.dtype).view(*x.shape[:-1], len(weight))


class _Widened(torch.autograd.Function):
    """bfloat16 operands, converted to float32 for a product that is rounded once; kept for backward as bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return _widened(x, weight, bias)

    @staticmethod
    @once(_graph_of(_widened))
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        x, weight, bias = ctx.saved_tensors
        grad = grad_outputs[0].reshape(-1, len(weight)).float()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        with uncast(x):
            of_x = (grad @ weight.to(x.dtype).float()).to(x.dtype).view(x.shape) if needs_x else None
            rows = x.reshape(-1, x.shape[-1])
            of_weight = (grad.t() @ rows.float()).to(weight.dtype) if needs_weight else None
        return of_x, of_weight, grad.sum(0).to(bias.dtype) if needs_bias else None


class _OneDNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return onednn(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    @once(_graph_of(F.linear))
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        x, weight, _ = ctx.saved_tensors
        grad, needs = grad_outputs[0].reshape(-1, len(weight)), ctx.needs_input_grad
        of_x = onednn(grad, weight.t(), None).view(x.shape) if needs[0] else None
        of_weight = onednn(grad.t(), x.reshape(-1, x.shape[-1]).t(), None) if needs[1] else None
        return of_x, of_weight, grad.sum(0) if needs[2] else None
