"""Backout around any scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.checks import check_finite, check_positive
from addnorm.config import OptimizerRule
from addnorm.layers.around import AroundRecipe
from addnorm.residual import Connection, Exit, Scheme, Site, State
from addnorm.schemes._around import AroundConnection, AroundConnections
from addnorm.schemes.pre_norm import PreNorm


class Kept(NamedTuple):
    """The inner state, or its skip; and the inner state of the middle, alone in a tuple, as soon as it was seen."""

    inner: State
    middle: tuple[State, ...] = ()


class BackoutEntrance(nn.Module):
    """The inner entrance; nothing is kept yet."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, embedding: Tensor) -> Kept:
        """The first state."""
        return Kept(self.inner(embedding))


class BackoutConnection(AroundConnection):
    """The inner connection; what is kept is handed on."""

    def inner_skip(self, skip: Kept) -> State:
        """The inner connection's own."""
        return skip.inner

    def read(self, state: Kept) -> tuple[Any, Kept]:
        """As the inner connection."""
        x, skip = self.inner.read(state.inner)
        return x, state._replace(inner=skip)

    def write(self, skip: Kept, update: Tensor) -> Kept:
        """As the inner connection."""
        return skip._replace(inner=super().write(skip, update))

    def fused(self) -> AroundRecipe | None:
        """As the inner connection, of a part of the state."""
        return self.fused_with(inside=lambda state: state.inner, outside=lambda state, own: state._replace(inner=own))


class MiddleKeepingConnection(BackoutConnection):
    """The inner connection; keeps the state that it reads."""

    def read(self, state: Kept) -> tuple[Any, Kept]:
        """As the inner connection."""
        x, skip = self.inner.read(state.inner)
        return x, Kept(skip, (state.inner,))

    def fused(self) -> AroundRecipe | None:
        """As the inner connection, and the state that it reads."""
        return self.fused_with(inside=lambda state: state.inner, outside=lambda state, own: Kept(own, (state.inner,)))


class BackoutExit(Exit):
    """`norm(collapse(state) - weight * collapse(kept))`, norm and collapse of the inner exit."""

    def __init__(self, inner: Exit, d_model: int, weight: float) -> None:
        super().__init__(d_model, "none")
        self.inner, self.initial = inner, weight
        # One element, not a scalar tensor: FSDP2 cannot shard those.
        self.weight = nn.Parameter(torch.full((1,), weight))

    def reset_parameters(self) -> None:
        """The weight at its initial value."""
        nn.init.constant_(self.weight, self.initial)

    def collapse(self, state: Kept) -> Tensor:
        """One vector a token, less that of the middle as soon as there is one."""
        x = self.inner.collapse(state.inner)
        for middle in state.middle:
            x = x - self.weight * self.inner.collapse(middle)
        return x

    def forward(self, state: Kept) -> Tensor:
        """The hidden vector: the inner exit's norm of that."""
        return self.inner.normed(self.collapse(state), state.inner)


@dataclass(frozen=True, kw_only=True)
class Backout(AroundConnections):
    """Backout: what the stream was in the middle of the stack is subtracted, with a weight, before the final norm.

        hidden = n(x_L - w * x_{m+1}),  m = L // 2, so that x_{m+1} is what comes out of layer m = 0 ... L - 1

    The weight is learned; all else is as in the inner scheme. The low-level features that the middle of the stack
    needed are taken out of what the head reads. In a stack of one or two layers it is what the last layer reads: its
    own output would only be scaled.

    Reference: Karpathy 2025, github.com/karpathy/nanochat; Jordan et al. 2024, github.com/KellerJordan/modded-nanogpt;
    no paper, but DenseFormer's weighted average of earlier states has it as a case: Pagliardini et al. 2024,
    arXiv:2402.02622.
    Cost: one parameter in all beside the inner scheme's; one more state is kept from the middle on.
    Deviation: nanochat's Adam has betas (0.8, 0.95) and eps 1e-10 for w; here they are those of all parameters. Its
    learning rate of w, 0.2, is kept as it stands to that of the stream's other factors, 0.005.

    Args:
        inner: the scheme that is wrapped.
        init: of w; 0.2 in nanochat.
        learning_rate: factor on the learning rate of w.
    """

    inner: Scheme = PreNorm(norm="rms")
    init: float = 0.2
    learning_rate: float = 40.0

    diagram: ClassVar[str] = "fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite("init", self.init)
        check_positive("learning_rate", self.learning_rate)

    def around(self, inner: Connection, site: Site) -> AroundConnection:
        """One of them keeps what it reads."""
        keeps = site.opens_layer and site.layer == min(site.num_layers // 2 + 1, site.num_layers - 1)
        return (MiddleKeepingConnection if keeps else BackoutConnection)(inner)

    def entrance(self, d_model: int) -> nn.Module:
        """As the inner scheme."""
        return BackoutEntrance(self.inner.entrance(d_model))

    def exit(self, d_model: int) -> Exit:
        """The inner exit, of the difference."""
        return BackoutExit(self.inner.exit(d_model), d_model, float(self.init))

    def starts_as(self) -> Scheme | None:
        """The inner scheme when w starts at zero."""
        return self.inner if self.init == 0 else None

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """A learning rate of its own for the weight."""
        if site is None and own == "exit.weight":
            return OptimizerRule(learning_rate=self.learning_rate)
        # Entrance and exit hold the inner ones, which know no more of it than the connections do.
        return super().optimizer_rule(site, own.replace(".inner.", ".", 1) if site is None and own else own)
