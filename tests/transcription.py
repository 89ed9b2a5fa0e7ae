"""Holding a scheme against its paper's equation, written a second time in float64 with tensor operations alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import agreement
from addnorm import Scheme, Stack
from addnorm.layers.arrange import Composed
from addnorm.layers.attention import Attention, AttentionOptions
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from addnorm.residual import Kind
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like, projected

D_MODEL = 12


class Parameters(dict[str, Tensor]):
    """Parameters by name, and the kind of norm that the scheme places."""

    def __init__(self, module: nn.Module, kind: str) -> None:
        super().__init__(module.named_parameters())
        self.kind = kind


@dataclass
class Parts:
    """What an equation is made of: the embedding, the bare sublayers, and the scheme's parameters."""

    x: Tensor
    F: list[Callable[[Tensor], Tensor]]
    at: list[Parameters]
    entrance: Parameters
    exit: Parameters


Equation = Callable[[Parts], Tensor]


def norm(x: Tensor, parameters: dict[str, Tensor], name: str, kind: str | None = None, eps: float = 1e-5) -> Tensor:
    """LayerNorm, RMSNorm or nothing with the parameters `name.weight` and `name.bias`.

    The kind is the scheme's where none is given; of a plain dictionary, what its parameters make of it.
    """
    prefix = f"{name}." if name else ""
    kind = kind or getattr(parameters, "kind", None) or ("layer" if f"{prefix}bias" in parameters else "rms")
    if kind == "none":
        return x
    gain, centred = parameters[f"{prefix}weight"], x
    if kind == "layer":
        centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
    normed = gain * centred / ((centred**2).sum(-1, keepdim=True) / x.shape[-1] + eps) ** 0.5
    return normed + parameters[f"{prefix}bias"] if kind == "layer" else normed


def pre_norm(parts: Parts) -> Tensor:
    """Pre-LN's equation, which many schemes share."""
    x = parts.x
    for F, p in zip(parts.F, parts.at, strict=True):
        x = x + F(norm(x, p, "norm"))
    return norm(x, parts.exit, "norm")


def real_sublayers(layers: int, d_model: int = D_MODEL) -> list[nn.Module]:
    """Attention and feed-forward in turn."""
    # Rotary: without it the keys' bias has no effect, and its gradient is rounding.
    options = AttentionOptions(rotary=True)
    return [sublayer for _ in range(layers) for sublayer in (Attention(d_model, 2, options), FeedForward(d_model, 20))]


def composed_sublayers(layers: int) -> list[nn.Module]:
    """Feed-forward of attention, one module a layer."""
    return [Composed(real_sublayers(1)) for _ in range(layers)]


def moved_stack(scheme: Scheme, sublayers: list[nn.Module], kinds: Sequence[Kind] = ("module",)) -> Stack:
    """A stack with every parameter moved off its initial value, in evaluation."""
    stack = Stack(scheme, sublayers, D_MODEL, sites(len(sublayers), kinds=kinds)).eval()
    with torch.no_grad():
        for seed, parameter in enumerate(stack.parameters()):
            parameter.add_(0.1 * noise_like(parameter, seed) + 0.05)
    return stack


def assert_agrees(
    scheme: Scheme,
    equation: Equation,
    sublayers: list[nn.Module] | None = None,
    kinds: Sequence[Kind] = ("module",),
) -> None:
    """The scheme's stack and the equation agree in value and in every gradient.

    The equation is computed in float64. Float64 must agree to 1e-10, float32 to 1e-5, both relative to the largest
    entry: rounding of sums of a few dozen terms, through four sublayers.
    """
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        torch.manual_seed(0)
        stack = moved_stack(scheme, copy.deepcopy(sublayers) or real_sublayers(2), kinds).to(dtype)
        transcribed = copy.deepcopy(stack).double()
        embedding = noise_like(torch.empty(2, 5, D_MODEL, dtype=dtype))
        ours = _outcome(stack, embedding, lambda x, one=stack: one(x, Context(causal=True)))
        theirs = _outcome(
            transcribed, embedding.double(), lambda x, one=transcribed: equation(_parts(one, x, Context(causal=True)))
        )
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            agreement.is_within(tolerance, name, ours[name], expected)


def _outcome(stack: Stack, embedding: Tensor, compute: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The hidden vectors and the gradients of everything."""
    x = embedding.clone().requires_grad_()
    hidden = compute(x)
    named = {"embedding": x, **dict(stack.named_parameters())}
    gradients = torch.autograd.grad(projected(hidden), list(named.values()))
    return {"hidden": hidden.detach(), **dict(zip(named, gradients, strict=True))}


def _parts(stack: Stack, x: Tensor, context: Context) -> Parts:
    kind = stack.scheme.norm
    return Parts(
        x,
        [lambda read, F=block.sublayer: F(read, context) for block in stack.blocks],
        [Parameters(block.connection, kind) for block in stack.blocks],
        Parameters(stack.entrance, kind),
        Parameters(stack.exit, kind),
    )
