"""Holding a scheme that changes the inside of sublayers against its equation, attention and feed-forward written out.

Everything here is written with tensor operations alone, in float64, a second time: positions are turned as complex
numbers, heads are taken one by one, the softmax is a quotient of sums.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from addnorm import Scheme, Stack
from addnorm.config import ModelConfig
from addnorm.layers.context import Context
from addnorm.models.sublayers import build_stack
from addnorm.testing.small_models import noise_like
from agreement import TOLERANCE, assert_agree, outcome

D_MODEL, HEADS, TOKENS = 12, 2, 5
D_HEAD = D_MODEL // HEADS
Place = Callable[[Tensor], Tensor]


def nothing(x: Tensor) -> Tensor:
    """The identity."""
    return x


@dataclass
class Layer:
    """The parameters of the two sublayers of a layer: their own by name, and those of their connections."""

    attention: dict[str, Tensor]
    attention_connection: dict[str, Tensor]
    feedforward: dict[str, Tensor]
    feedforward_connection: dict[str, Tensor]


@dataclass
class Net:
    """A whole stack as an equation sees it."""

    x: Tensor
    layers: list[Layer]
    entrance: dict[str, Tensor]
    exit: dict[str, Tensor]


def linear(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    """`W x + b`."""
    return x @ p[f"{name}.weight"].mT + p[f"{name}.bias"]


def turned(x: Tensor) -> Tensor:
    """Rotary positions of one head `(batch, tokens, d_head)`, as a product of complex numbers."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((z.real, z.imag), dim=-1)


def heads_of(x: Tensor) -> list[Tensor]:
    """One `(batch, tokens, d_head)` a head."""
    return [x[..., h * D_HEAD : (h + 1) * D_HEAD] for h in range(HEADS)]


def probabilities(scores: Tensor) -> Tensor:
    """A causal softmax."""
    future = torch.ones_like(scores).triu(1)
    e = torch.exp(scores - scores.amax(-1, keepdim=True).detach()) * (1 - future)
    return e / e.sum(-1, keepdim=True)


def attention(
    x: Tensor,
    p: dict[str, Tensor],
    *,
    query: Place = nothing,
    key: Place = nothing,
    value: Place = nothing,
    heads: Callable[[int, Tensor], Tensor] = lambda _, y: y,
    joined: Place = nothing,
) -> Tensor:
    """`W_o joined([heads(softmax(q k^T / sqrt(d_head)) v)]_h)`, queries, keys and values as the places leave them."""
    q, k, v = (heads_of(linear(x, p, name)) for name in ("q_proj", "k_proj", "v_proj"))
    mixed = []
    for h in range(HEADS):
        scores = turned(query(q[h])) @ turned(key(k[h])).mT / D_HEAD**0.5
        mixed.append(heads(h, probabilities(scores) @ value(v[h])))
    return linear(joined(torch.cat(mixed, dim=-1)), p, "o_proj")


def feedforward(x: Tensor, p: dict[str, Tensor], activated: Place = nothing) -> Tensor:
    """`W2 activated(gelu(W1 x))`."""
    inner = linear(x, p, "fc1")
    return linear(activated(0.5 * inner * (1 + torch.erf(inner / 2**0.5))), p, "fc2")


def assert_inside_agrees(scheme: Scheme, equation: Callable[[Net], Tensor], **shape: Any) -> None:
    """A causal stack of three layers agrees with the equation in value and in every gradient, in both precisions."""
    config = ModelConfig(vocab_size=2, d_model=D_MODEL, num_heads=HEADS, num_layers=3, d_ff=20, **shape)
    for dtype, tolerance in TOLERANCE.items():
        stack = _moved(build_stack(scheme, config, "decoder")).to(dtype)
        twin = copy.deepcopy(stack).double()
        x = noise_like(torch.empty(2, TOKENS, D_MODEL, dtype=torch.float64))
        context = Context(causal=True, positions=torch.arange(TOKENS))
        ours = _outcome(stack, x.to(dtype), lambda x, stack=stack, context=context: stack(x, context))
        theirs = _outcome(twin, x, lambda x, twin=twin: equation(net_of(twin, x)))
        assert_agree({name: tensor.double() for name, tensor in ours.items()}, theirs, tolerance)


def _outcome(stack: Stack, x: Tensor, compute: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    return outcome(lambda: compute(x), {"embedding": x, **dict(stack.named_parameters())})


@torch.no_grad()
def _moved(stack: Stack) -> Stack:
    """Every parameter off its initial value, and asymmetric."""
    torch.manual_seed(0)
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    for seed, parameter in enumerate(stack.parameters()):
        parameter.add_(0.1 * noise_like(parameter, seed) + 0.05)
    return stack.eval()


def net_of(stack: Stack, x: Tensor) -> Net:
    """What an equation is given."""

    def own(module: nn.Module) -> dict[str, Tensor]:
        return dict(module.named_parameters())

    pairs = zip(stack.blocks[0::2], stack.blocks[1::2], strict=True)
    layers = [Layer(own(a.sublayer), own(a.connection), own(f.sublayer), own(f.connection)) for a, f in pairs]
    return Net(x, layers, own(stack.entrance), own(stack.exit))
