"""The box "Add & Norm" by layers: of one site, and of a row of Pre-LN sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.kernels.add_norm import add_norm_fused, fits, update_fits
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.layers.norm import LayerNorm, is_few, is_plain
from addnorm.layers.route import Route, SiteRecipe

if TYPE_CHECKING:
    from jaxtyping import Float


def add_and_norm(
    norm: nn.Module,
    stream: Float[Tensor, "*tokens d_model"],
    update: Float[Tensor, "*tokens d_model"],
    alpha: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The sum `alpha x + y` and the norm of it, in one pass over memory where there is one for them.

    Args:
        norm: a layer of `addnorm.layers.norm`.
        stream, update: `x` and `y`.
        alpha: a factor of the stream.
    """
    told = None if is_few(stream) else _told(norm, alpha)
    if told is not None and fits(stream, update, *told[:2]):
        return add_norm_fused(stream, update, *told)
    total = stream + update if alpha == 1 else alpha * stream + update
    return total, norm(total)


def _told(norm: nn.Module, alpha: float = 1.0) -> tuple[Tensor, Tensor | None, NormOfSum] | None:
    """What the kernel is told of a norm that it knows and nobody watches."""
    if not is_plain(norm):
        return None
    centred = isinstance(norm, LayerNorm)
    return norm.weight, norm.bias if centred else None, NormOfSum(eps=norm.eps, centred=centred, alpha=alpha)


@dataclass(frozen=True, kw_only=True, eq=False)
class NormThenAdd(SiteRecipe):
    """`x + F(n(x))`; of an exit, `n(x)`."""

    norm: nn.Module

    def begin(self, following: Sequence[NormThenAdd], state: Tensor) -> Route | None:
        """Through all whose norms nobody watches."""
        norms = [self.norm, *[one.norm for one in following]]
        if len(norms) == 1:
            return None  # there is no sum to be normalised
        if is_few(state):
            return _FewTokens(norms, state)
        # Under a GPU's autocast the result of a LayerNorm is float32, which the kernel's is not.
        if not state.is_cpu and torch.is_autocast_enabled(state.device.type):
            return None
        told = []
        for norm in norms:
            if (one := _told(norm)) is None:
                break
            told.append(one)
        if len(told) < 2 or not fits(state, None, *[learned for one in told for learned in one[:2]]):
            return None
        return _NormedSums(norms[0], told[1:], state)


class _FewTokens(Route):
    """Of few tokens, whose sums are nothing beside a call."""

    def __init__(self, norms: Sequence[nn.Module], stream: Tensor) -> None:
        self.norms, self.stream = iter(norms), stream

    def enter(self, state: Tensor) -> Tensor:
        return next(self.norms)(state)

    def follow(self, update: Tensor) -> Tensor | None:
        norm = next(self.norms, None)
        if norm is None:
            return None
        self.stream = self.stream + update
        return norm(self.stream)

    def leave(self, update: Tensor) -> Tensor:
        return self.stream + update


class _NormedSums(Route):
    """Each sum, and its norm for the next site, in one pass over memory."""

    def __init__(
        self, first: nn.Module, told: Sequence[tuple[Tensor, Tensor | None, NormOfSum]], stream: Tensor
    ) -> None:
        self.first, self.told, self.stream = first, iter(told), stream

    def enter(self, state: Tensor) -> Tensor:
        return self.first(state)

    def follow(self, update: Tensor) -> Tensor | None:
        if not update_fits(self.stream, update) or (told := next(self.told, None)) is None:
            return None
        self.stream, normed = add_norm_fused(self.stream, update, *told)
        return normed

    def leave(self, update: Tensor) -> Tensor:
        return self.stream + update
