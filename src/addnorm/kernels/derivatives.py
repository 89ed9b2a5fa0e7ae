"""Derivatives of derivatives: a fused operation's own backward is fast, the graph of it is that of its formula.

A `torch.autograd.Function` with a hand-written backward can be differentiated once. Where a graph of the backward is
asked for (`create_graph=True`), the formula is computed again by torch's operations from the same inputs, and
differentiated as often as anybody likes. `torch.func` and forward-mode derivatives take the formula from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
import torch.autograd.forward_ad
from torch import Tensor

Grads = tuple[Tensor | None, ...]


def is_traced(*, by_compiler: bool = True) -> bool:
    """Whether torch follows each operation by other means than its tape: its compiler, `torch.func`, forward mode.

    Then the formula is taken, which all of them can follow.

    Args:
        by_compiler: whether its compiler counts, which can follow a `torch.autograd.Function`.
    """
    return (
        (by_compiler and torch.compiler.is_compiling())
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


PLAIN = (Tensor, torch.nn.Parameter)


def once(graph: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For the `backward` of a `torch.autograd.Function` that can be differentiated once.

    Args:
        graph: the same backward by operations that autograd records; called where a graph of it is asked for, and
            for gradients that are no plain tensors: a kernel reads addresses.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(backward)
        def either(ctx: Any, *grad_outputs: Tensor | None) -> Any:
            if torch.is_grad_enabled():
                return graph(ctx, *grad_outputs)
            for grad in grad_outputs:
                if grad is not None and (type(grad) is not Tensor or grad._is_zerotensor()):
                    with torch.enable_grad():
                        return graph(ctx, *grad_outputs)
            return backward(ctx, *grad_outputs)

        return either

    return decorate


def gradients(
    formula: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    grad_outputs: Sequence[Tensor | None],
) -> Grads:
    """The gradients of a formula at its inputs, with their graph: functions of inputs and of `grad_outputs`.

    Args:
        formula: of the inputs, by operations that autograd records; gives one tensor, or one for each gradient.
        inputs: as `ctx.saved_tensors` hands them out, so that they stand in the graph.
        grad_outputs: of the outputs, in their order; None for one that nobody used.

    Returns:
        One for each input; None where no gradient is asked for, or none comes.
    """
    # Copies in the graph: an input may be made of another one, and its share is not this formula's.
    own = [one.view_as(one) if one is not None and one.requires_grad else one for one in inputs]
    outputs = formula(*own)
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    pairs = [
        (output, grad.to(output.dtype))
        for output, grad in zip(outputs, grad_outputs, strict=True)
        if grad is not None and output.requires_grad
    ]
    asked = [one for one in own if one is not None and one.requires_grad]
    if not pairs or not asked:
        return (None,) * len(inputs)
    ends, grads = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(ends, asked, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if one is not None and one.requires_grad else None for one in own)


def zeros_like_gradient(like: Tensor) -> Tensor:
    """A leaf in the place of an input that a formula only adds: its gradient does not depend on its numbers."""
    return torch.zeros_like(like, requires_grad=True)
