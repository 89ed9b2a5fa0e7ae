"""What no stack can run, in the words of whoever wrote the scheme or the sublayers; looked for after a failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from addnorm.residual import Connection


@torch.no_grad()
def first_fault(
    entrance: nn.Module, blocks: Iterable[tuple[Connection, nn.Module]], x: Tensor, d_model: int, context: Any
) -> str | None:
    """The first thing that breaks the contract, found by running the parts again, one by one.

    Args:
        entrance: of the stack.
        blocks: each connection with its sublayer.
        x: what the stack was given.
        d_model: the width that it was built for.
        context: what each sublayer is given beside its input.

    Returns:
        What is wrong, and what to do; None where the contract is kept, and the failure is the parts' own affair.
    """
    if x.shape[-1] != d_model:
        return f"vectors of width {x.shape[-1]} came for a stack of d_model={d_model}; give vectors of that width."
    try:
        state = entrance(x)
        for index, (connection, sublayer) in enumerate(blocks):
            name, read = type(connection).__name__, connection.read(state)
            if not (isinstance(read, tuple) and len(read) == 2):
                return (
                    f"{name}.read returned {_said(read)} at sublayer {index}; "
                    "return two things: what the sublayer reads, and the skip, which write is given."
                )
            if width := _other_width(sublayer, d_model):
                return (
                    f"sublayer {index} ({type(sublayer).__name__}) takes vectors of width {width}, and the stack is "
                    f"built for d_model={d_model}; build both for the same width."
                )
            state = connection.write(read[1], sublayer(read[0], *context))
            if state is None:
                return f"{name}.write returned nothing at sublayer {index}; return the new state."
    except Exception:  # what the parts raise by themselves says more than we could
        return None
    return None


def _said(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"one tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"{len(value)} things"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _other_width(sublayer: nn.Module, d_model: int) -> int | None:
    """The width that a sublayer's linear maps read, if it is the stack's in none of them."""
    widths = [part.in_features for part in sublayer.modules() if isinstance(part, nn.Linear)]
    return None if d_model in widths or not widths else widths[0]
