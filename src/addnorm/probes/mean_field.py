"""What theory says of a stack before it runs: sizes of state, writes and gradients by depth, at initialisation.

In the limit of large width, fresh sublayers act on a sequence only through the products of its tokens (their kernel):
what they write is Gaussian and independent of what they read, and so is the gradient that they hand back.

    K_st = <x_s, x_t> / d;    value path of attention: K <- U (d m_v K) U^T d m_o,  U uniform over what may be seen
    feed-forward: K <- f m_2 E[a(u_s) a(u_t)],  u ~ N(0, d m_1 K);    backward: G <- d f m_1 m_2 E[a'(u_s) a'(u_t)] G_st

m are the mean squares of the weights, f the inner width, a the activation. The scheme's own connections, norms and exit
run as they are, with sublayers of this kind in between. Poole et al. 2016, arXiv:1606.05340; Yang and Schoenholz 2017,
arXiv:1712.08969, who show that residual nets grow and their gradients too; attention as uniform: Noci et al. 2022,
arXiv:2206.03126. At finite width it is off by about the square root of depth over width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from addnorm.layers.attention import Attention
from addnorm.layers.feedforward import ELEMENTWISE, FeedForward
from addnorm.layers.inside import Inside
from addnorm.layers.views import Views, views_of
from addnorm.probes.signal import SignalFlow, stack_of
from addnorm.probes.untouched import untouched
from addnorm.stack import Block, Stack

DRAWS = 4
TERMS, POINTS, REACH = 24, 1000, 8.0  # GELU's moments are right to 1e-6, ReLU's to 1e-3


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """By depth.

    Args:
        state_rms: L + 1, of the state as the exit would take it.
        update_rms: L, of what each sublayer writes.
        state_grad_norm: L + 1, of the loss.
        turned: L, the share of the new state that the write has turned it by: sin^2 of the angle between the state with
            what was written and without.
    """

    state_rms: list[float]
    update_rms: list[float]
    state_grad_norm: list[float]
    turned: list[float]

    @property
    def amplification(self) -> float:
        """What the later half of the sublayers turns: how strongly a change of all of them changes what comes out.

        ln 2 where each write is one more of equal size, as in Pre-LN; in proportion to depth in Post-LN, which
        therefore needs a warm-up: after Liu et al. 2020, arXiv:2004.08249, who take the sum over all, ln L and L.
        """
        return sum(self.turned[len(self.turned) // 2 :])


def predict(model: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Tensor]) -> Prediction | None:
    """For a fresh model with a stack; None where there is no theory of what its sublayers are.

    Args:
        model: as it is before training; it is not touched.
        batch: what `loss` takes; embedding and loss are the model's own.
        loss: a scalar of model and batch.
    """
    surrogate = copy.deepcopy(model).eval()
    stack = stack_of(surrogate)
    if stack is None or not all(_is_known(block.get_submodule("sublayer")) for block in stack.blocks):
        return None
    for place, block in enumerate(stack.blocks):
        block.register_module("sublayer", MeanField(block.get_submodule("sublayer"), place))
    with untouched(surrogate):
        drawn = [_draw(surrogate, stack, draw, batch, loss) for draw in range(DRAWS)]
    means = {name: np.mean([one[name] for one in drawn], axis=0).tolist() for name in drawn[0]}
    return Prediction(**means)


class MeanField(nn.Module):
    """A sublayer in the limit of large width: Gaussian vectors of the kernel that its own would have.

    Args:
        sublayer: attention or feed-forward, whose weights' mean squares are taken.
        place: of the sublayer; decides, with `draw`, what is drawn.
    """

    def __init__(self, sublayer: nn.Module, place: int) -> None:
        super().__init__()
        assert isinstance(sublayer, Attention | FeedForward)
        (inner, outer) = sublayer.value_paths()[0]
        self.into = inner.in_features * _mean_square(inner.weight)
        self.out_of = outer.in_features * _mean_square(outer.weight)
        self.back_in = outer.out_features * _mean_square(outer.weight)
        self.back_out = inner.out_features * _mean_square(inner.weight)
        self.place, self.draw = place, 0
        self.activation = sublayer.activation if isinstance(sublayer, FeedForward) else None
        gate = getattr(sublayer, "gate", None)
        self.into_gate = 0.0 if gate is None else gate.in_features * _mean_square(gate.weight)

    def forward(self, x: Tensor | Views, *context: Any) -> Tensor:
        """`(batch, tokens, d_model)` like the values that it is given."""
        generator = torch.Generator().manual_seed(1000 * self.draw + self.place)
        causal = bool(getattr(context[0], "causal", False)) if context else False
        return _Gaussian.apply(views_of(x).value, self, causal, generator)

    def kernel(self, k: Tensor, causal: bool) -> Tensor:
        """What is written, from what is read: `(batch, tokens, tokens)`."""
        if self.activation is None:
            uniform = _uniform(k, causal)
            return self.out_of * (uniform @ (self.into * k) @ uniform.mT)
        act = ELEMENTWISE[self.activation]
        if self.into_gate:
            return self.out_of * moments(act, self.into_gate * k) * self.into * k
        return self.out_of * moments(act, self.into * k)

    def back(self, k: Tensor, g: Tensor, causal: bool) -> Tensor:
        """The kernel of the gradient that is handed back, from that which came and from what was read."""
        if self.activation is None:
            uniform = _uniform(k, causal)
            return self.back_out * (uniform.mT @ (self.back_in * g) @ uniform)
        act = ELEMENTWISE[self.activation]
        slope = _slope(act)
        if self.into_gate:
            ratio = self.into_gate / self.into
            through_gate = moments(slope, self.into_gate * k) * self.into * k * ratio
            return self.back_out * self.back_in * (moments(act, self.into_gate * k) + through_gate) * g
        return self.back_out * self.back_in * moments(slope, self.into * k) * g


def moments(function: Callable[[Tensor], Tensor], k: Tensor) -> Tensor:
    """`E[f(u_s) f(u_t)]` for `u ~ N(0, K)`: `sum_i c_i(s) c_i(t) rho^i`, c the coefficients in Hermite polynomials.

    >>> round(float(moments(torch.relu, torch.eye(2, dtype=torch.float64))[0, 0]), 3)
    0.5
    """
    size = k.diagonal(dim1=-2, dim2=-1).clamp_min(1e-30).sqrt()
    cosine = (k / (size[..., :, None] * size[..., None, :])).clamp(-1, 1)
    z = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    values = function(size[..., None] * z)
    coefficients = torch.einsum("...sz,iz->...si", values, _hermite(z) * density)
    power, total = torch.ones_like(cosine), torch.zeros_like(cosine)
    for c in coefficients.unbind(-1):
        total += power * c[..., :, None] * c[..., None, :]
        power = power * cosine
    # What the higher ones have in common is nothing but where two tokens are one.
    left = ((values.square() @ density) - coefficients.square().sum(-1)).clamp_min(0).sqrt()
    return total + power * left[..., :, None] * left[..., None, :]


def _hermite(z: Tensor) -> Tensor:
    """The first Hermite polynomials, of mean square 1 under a standard normal: `(TERMS, points)`."""
    found = [torch.ones_like(z), z]
    for i in range(2, TERMS):
        found.append((z * found[-1] - math.sqrt(i - 1) * found[-2]) / math.sqrt(i))
    return torch.stack(found)


class _Gaussian(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sublayer: MeanField, causal: bool, generator: torch.Generator) -> Tensor:
        k = _kernel(x)
        ctx.k, ctx.sublayer, ctx.causal, ctx.generator = k, sublayer, causal, generator
        return _sample(sublayer.kernel(k, causal), x, generator)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # pyrefly: ignore[bad-override]
        (gradient,) = gradients
        back = ctx.sublayer.back(ctx.k, _kernel(gradient), ctx.causal)
        return _sample(back, gradient, ctx.generator), None, None, None


def _kernel(x: Tensor) -> Tensor:
    x = x.detach().double()
    return x @ x.mT / x.shape[-1]


def _sample(kernel: Tensor, like: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian vectors with that kernel, by its root: a kernel of equal tokens has no Cholesky factor."""
    values, vectors = torch.linalg.eigh((kernel + kernel.mT) / 2)
    root = vectors * values.clamp_min(0).sqrt()[..., None, :]
    return (root @ torch.randn(like.shape, generator=generator, dtype=torch.float64)).to(like)


def _uniform(k: Tensor, causal: bool) -> Tensor:
    allowed = torch.ones_like(k[0])
    allowed = allowed.tril() if causal else allowed
    return allowed / allowed.sum(-1, keepdim=True)


def _slope(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x).sum(), x)[0]

    return slope


def _is_known(sublayer: nn.Module) -> bool:
    """Plain attention or feed-forward: nothing of the scheme's in it, fresh biases."""
    if not isinstance(sublayer, Attention | FeedForward) or sublayer.built_for != Inside():
        return False
    return all(not bool(p.any()) for name, p in sublayer.named_parameters() if name.endswith(".bias"))


def _mean_square(weight: Tensor) -> float:
    return float(weight.detach().double().square().mean())


def _draw(
    model: nn.Module, stack: Stack, draw: int, batch: Any, loss: Callable[[nn.Module, Any], Tensor]
) -> dict[str, list[float]]:
    """One forward and backward with one draw of all sublayers."""
    for module in stack.modules():
        if isinstance(module, MeanField):
            module.draw = draw
    given: list[tuple[Any, ...]] = []
    handle = stack.register_forward_pre_hook(lambda _, args: given.append(args))
    model.zero_grad()
    with torch.enable_grad(), SignalFlow(stack) as flow:
        loss(model, batch).backward()
    handle.remove()
    found = flow.forward_and_backward()
    names = ("state_rms", "update_rms", "state_grad_norm")
    return {name: found[name] for name in names} | {"turned": _turned(stack, *given[0])}


@torch.no_grad()
def _turned(stack: Stack, embedding: Tensor, *context: Any) -> list[float]:
    state, found = stack.entrance(embedding), []
    for block in stack.blocks:
        assert isinstance(block, Block)
        x, skip = block.connection.read(state)
        update = block.sublayer(x, *context)
        without = _flat(block.connection.write(skip, torch.zeros_like(update)), update)
        state = block.connection.write(skip, update)
        cosine = nn.functional.cosine_similarity(_flat(state, update), without, dim=-1)
        found.append(float((1 - cosine.square()).mean()))
    return found


def _flat(state: Any, like: Tensor) -> Tensor:
    """All vectors of each token side by side."""
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
    tokens = like.shape[:-1]
    return torch.cat([leaf.reshape(*tokens, -1).double() for leaf in leaves if leaf.shape[: len(tokens)] == tokens], -1)
