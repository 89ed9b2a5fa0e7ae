"""A row of mHC sites, each written and the next one read in one pass over the streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from addnorm.kernels import mhc_site
from addnorm.kernels.gpu import choice
from addnorm.kernels.mhc_read import Numbers
from addnorm.kernels.mhc_site import Held
from addnorm.kernels.mhc_weights import Form, Weights
from addnorm.layers.norm import RMSNorm, is_plain
from addnorm.layers.route import Route, SiteRecipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixing(SiteRecipe):
    """`H_res X + H_post^T F(n(H_pre X))`, with the coefficients of `kernels.mhc_read`.

    Args:
        norm: n; the kernel takes it over where it knows it.
        phi, bias: the map to all logits, and what is added to them.
        alpha: a factor for each of the three kinds of logits.
        numbers: what is not learned.
    """

    norm: nn.Module
    phi: Tensor
    alpha: Tensor
    bias: Tensor
    numbers: Numbers

    def begin(self, following: Sequence[Mixing], state: Tensor) -> Route | None:
        """Through all of them."""
        on_gpu = choice.takes(state)  # where the norm is a kernel of its own
        sites = [site.told(with_norm=not on_gpu) for site in (self, *following)]
        return _Sites(sites) if mhc_site.fits(state, *[weights for weights, _ in sites]) else None

    def told(self, *, with_norm: bool) -> tuple[Weights, nn.Module | None]:
        """What the kernel is told, and the norm that is left."""
        norm, gain, shift, form = self.norm, None, None, Form(numbers=self.numbers)
        if with_norm and is_plain(norm):
            rms = isinstance(norm, RMSNorm)
            gain, shift = norm.weight, None if rms else norm.bias
            form = Form(numbers=self.numbers, norm="rms" if rms else "layer", norm_eps=norm.eps)
        left = norm if form.norm == "none" else None
        return Weights(phi=self.phi, alpha=self.alpha, bias=self.bias, gain=gain, shift=shift, form=form), left


class _Sites(Route):
    def __init__(self, sites: Sequence[tuple[Weights, nn.Module | None]]) -> None:
        self.sites = iter(sites)
        self.held: Held | None = None

    def enter(self, state: Tensor) -> Tensor:
        weights, norm = next(self.sites)
        x, self.held = mhc_site.read(state, weights)
        return x if norm is None else norm(x)

    def follow(self, update: Tensor) -> Tensor | None:
        assert self.held is not None
        if not mhc_site.takes_update(self.held, update) or (site := next(self.sites, None)) is None:
            return None
        weights, norm = site
        x, self.held = mhc_site.write_and_read(self.held, update, weights)
        return x if norm is None else norm(x)

    def leave(self, update: Tensor) -> Tensor:
        assert self.held is not None
        return mhc_site.write(self.held, update)
