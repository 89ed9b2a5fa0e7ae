"""Calling a linear layer by the fastest exact route of its machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels.linear import check_numbers, linear
from addnorm.layers.watched import is_only

if TYPE_CHECKING:
    from jaxtyping import Float


def mapped(layer: nn.Module, x: Float[Tensor, "*tokens inputs"]) -> Float[Tensor, "*tokens outputs"]:
    """`W x + b` through `addnorm.kernels.linear` where the layer is a `torch.nn.Linear` and no more, else by its call.

    The layers are torch's own, so that whoever looks for them finds them: what quantises, adapts (LoRA), parametrises,
    prunes or watches a linear layer.

    Args:
        layer: a `torch.nn.Linear`, or what somebody has put in its place.
        x: the vectors.
    """
    own = layer._parameters  # asking the module itself takes several times as long
    weight = own.get("weight")
    if torch.compiler.is_compiling() or weight is None or not is_only(layer, nn.Linear):
        if weight is not None:
            check_numbers(x, weight)
        return layer(x)
    return linear(x, weight, own["bias"])


def maps_of(linears: Sequence[nn.Module]) -> list[tuple[Tensor, Tensor | None]] | None:
    """Weights and biases of layers that are nothing but `nn.Linear`; None where one is more."""
    found: list[tuple[Tensor, Tensor | None]] = []
    for layer in linears:
        if not is_only(layer, nn.Linear):
            return None
        own = layer._parameters  # asking the module itself takes several times as long
        weight = own["weight"]
        if weight is None:  # somebody computes it elsewhere
            return None
        found.append((weight, own["bias"]))
    return found
