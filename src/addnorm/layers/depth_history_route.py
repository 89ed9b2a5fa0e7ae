"""A row of sites that attend over depth, with one history of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from addnorm.kernels.depth_history import History, Norm, begin, norms_fit
from addnorm.kernels.depth_history_call import LAYER, RMS
from addnorm.layers.norm import LayerNorm, RMSNorm, is_plain
from addnorm.layers.route import Route, SiteRecipe

Sources = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthMixture(SiteRecipe):
    """`n(sum_j a_j v_j)`, `a = softmax_j(w . RMSNorm(v_j))`.

    Args:
        query: `w`; None where there is one source to read.
        norm: n.
        eps: added to the mean square of a key.
        appends: whether the update is a source more, or added to the last one; None of an exit, which has none, and
            whose norm is of the sum of the sources.
    """

    query: Tensor | None
    norm: nn.Module
    eps: float
    appends: bool | None

    def begin(self, following: Sequence[DepthMixture], state: Sources) -> Route | None:
        """Through all up to the exit, because nobody may see a state on the way; else through this one."""
        sites = [self, *following]
        queries = [site.query for site in sites if site.query is not None and site.eps == self.eps]
        reads = len(sites) if self.query is not None else len(following)
        if sites[-1].appends is not None or len(queries) < reads or not (self.appends or self.query is not None):
            sites, queries = [self], [] if self.query is None else [self.query]
        if not queries:
            return _OneSource(self)
        history = begin(state, queries, self.eps)
        return None if history is None else _Reads(sites, state, history)

    def written(self, sources: Sources, update: Tensor) -> Sources:
        """One source more, or the last one grown."""
        return (*sources, update) if self.appends else (*sources[:-1], sources[-1] + update)


class _OneSource(Route):
    """Of the embedding alone there is nothing to weigh."""

    def __init__(self, site: DepthMixture) -> None:
        self.site = site

    def enter(self, state: Sources) -> Tensor:
        self.sources = state
        return self.site.norm(state[0])

    def follow(self, update: Tensor) -> None:
        return None

    def leave(self, update: Tensor) -> Sources:
        return self.site.written(self.sources, update)


class _Reads(Route):
    def __init__(self, sites: Sequence[DepthMixture], sources: Sources, history: History) -> None:
        self.sites, self.place, self.sources, self.history = sites, 0, sources, history
        self.norms = [_told(site.norm) for site in sites]
        if not norms_fit(self.norms, history):
            self.norms = [None] * len(sites)

    def enter(self, state: Sources) -> Tensor:
        site = self.sites[0]
        return site.norm(state[0]) if site.query is None else self._read(site)

    def follow(self, update: Tensor) -> Tensor | None:
        if self.place + 1 == len(self.sites) or not self.history.takes(update):
            return None
        change = self.history.append if self.sites[self.place].appends else self.history.grow
        self.history, self.place = change(update), self.place + 1
        return self._read(self.sites[self.place])

    def leave(self, update: Tensor) -> Sources:
        return self.sites[self.place].written(self.history.sources() if self.place else self.sources, update)

    def _read(self, site: DepthMixture) -> Tensor:
        """The kernel normalises too, where it knows the norm."""
        count = self.history.count if site.appends is None else 1
        told = self.norms[self.place]
        x, self.history = self.history.read(Norm() if told is None else told.of_sum(count))
        return norm_of_sum(site.norm, x, count) if told is None else x


def norm_of_sum(norm: nn.Module, mixture: Tensor, count: int) -> Tensor:
    """The norm of a mixture of `count` sources, its eps as beside their sum."""
    return norm(count * mixture) if count > 1 and isinstance(norm, LayerNorm | RMSNorm) else norm(mixture)


def _told(norm: nn.Module) -> Norm | None:
    """What the kernel is told of a norm that nobody watches."""
    if not is_plain(norm):
        return None
    if isinstance(norm, RMSNorm):
        return Norm(kind=RMS, weight=norm.weight, eps=norm.eps)
    return Norm(kind=LAYER, weight=norm.weight, bias=norm.bias, eps=norm.eps)
