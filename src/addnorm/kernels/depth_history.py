"""Attention over depth along a whole stack, in C++: every source is read once a site, and once again for its gradient.

A mixture's gradient is `g_i`; a source's is `sum_i a_ij g_i + s_ij r_j w_i - v_j (...)` over all reads i that see it.
Adding to it at every read would take N^2/2 dense sums that are read and written. Here a read's backward leaves `g_i`
and two numbers a source and token; the source gathers them in one pass when the last of its readers has gone.

The order is autograd's own. Each read hands an empty tensor, the thread, to the next, so that a read's backward runs
after those of all later reads; a read brings its newest source with it and gathers that one's gradient. The sources
inside a `History` are outside of the graph, because nobody else may ask for their gradient: one history for a whole
stack serves only where nobody sees a state, and one for each read elsewhere, with the same bits. What reads leave for
each other belongs to one pass of backward (autograd numbers them), so that a second pass over a kept graph, or over
another part of it, finds nothing of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.depth_attention import depth_attention_reference
from addnorm.kernels.depth_history_backward import Backward, Passage, Saved, graph
from addnorm.kernels.depth_history_call import NAME, NONE, READ, RMS, addresses, call, threads
from addnorm.kernels.derivatives import Grads, once
from addnorm.kernels.precision import wide
from addnorm.kernels.rms_norm import rms_norm_reference

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Norm:
    """What is done to a mixture: `NONE`, `LAYER` or `RMS`."""

    kind: int = NONE
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 0.0

    def of_sum(self, count: int) -> Norm:
        """The same, its eps as beside the sum of so many sources."""
        return self if count == 1 else replace(self, eps=self.eps / count**2)


@dataclass(frozen=True, kw_only=True)
class History:
    """The sources so far, and those that no read has seen.

    Args:
        queries: `[reads, d_model]`, all those to come, in the order of the reads; in float32 (float64 for float64).
        eps: added to the mean square of a key.
        fresh: sources that no read has seen, in the graph.
        grows: whether the fresh one is to be added to the last value instead of standing beside it.
        values, inverse: sources that a read has seen, outside of the graph, and one over their root mean squares.
        reads: how many reads there were.
        thread: ties each read to the one before it.
        passage: what the backwards of the reads share.
    """

    queries: Float[Tensor, "reads d_model"]
    eps: float
    fresh: tuple[Float[Tensor, "*tokens d_model"], ...]
    grows: bool = False
    values: tuple[Tensor, ...] = ()
    inverse: tuple[Tensor, ...] = ()
    reads: int = 0
    thread: Tensor | None = None
    passage: Passage = field(default_factory=Passage)

    def append(self, update: Float[Tensor, "*tokens d_model"]) -> History:
        """One source more."""
        return replace(self, fresh=(*self.fresh, self._like_the_first(update)))

    def grow(self, update: Float[Tensor, "*tokens d_model"]) -> History:
        """The last source with the update added."""
        assert self.values and not self.fresh, "only what was read can grow"
        return replace(self, fresh=(self._like_the_first(update),), grows=True)

    @property
    def count(self) -> int:
        """How many sources the next read has."""
        return len(self.values) + (0 if self.grows else len(self.fresh))

    def takes(self, update: Tensor) -> bool:
        """Whether the kernel can read this update; torch's operations read any."""
        return native.takes(update)

    def sources(self) -> tuple[Float[Tensor, "*tokens d_model"], ...]:
        """All sources, in the graph: for who goes on by torch's operations."""
        seen: Sequence[Tensor] = self.values
        if self.thread is not None and self.thread.requires_grad:
            seen, *_ = self.passage.sources(self.reads - 1)
        if self.grows:
            return (*seen[:-1], seen[-1] + self.fresh[0])
        return (*seen, *self.fresh)

    def _like_the_first(self, update: Tensor) -> Tensor:
        """Autocast hands out other precisions than the embedding's."""
        first = (self.values or self.fresh)[0]
        return update.to(first.dtype).expand_as(first).contiguous()

    def read(self, norm: Norm) -> tuple[Float[Tensor, "*tokens d_model"], History]:
        """The mixture by the next query, normalised; and the history with nothing fresh."""
        with torch.no_grad():
            found = _Found(self, norm)
        result, thread = found.result, None
        if torch.is_grad_enabled():
            result, thread, _ = _Read.apply(found, self.queries, norm.weight, norm.bias, self.thread, *self.fresh)
        seen = {"fresh": (), "grows": False, "values": tuple(found.values), "inverse": tuple(found.inverse)}
        return result, replace(self, reads=self.reads + 1, thread=thread, **seen)


def begin(sources: Sequence[Float[Tensor, "*tokens d_model"]], queries: Sequence[Tensor], eps: float) -> History | None:
    """A history whose reads take these queries one after the other; None where the kernel cannot run."""
    if not native.takes(*sources, *queries) or native.library(NAME) is None:
        return None
    first = sources[0].shape
    if {one.shape for one in sources} != {first} or {query.shape for query in queries} != {first[-1:]}:
        return None
    fresh = tuple([source.contiguous() for source in sources])
    return History(queries=wide(torch.stack(tuple(queries))), eps=eps, fresh=fresh)


def norms_fit(norms: Sequence[Norm | None], history: History) -> bool:
    """Whether the kernel can read the gains and biases of all."""
    learned = [one for norm in norms if norm is not None for one in (norm.weight, norm.bias) if one is not None]
    alike = {one.shape for one in learned} <= {history.queries.shape[1:]}
    return alike and {one.dtype for one in learned} <= native.SUFFIXES.keys() and native.has_address(*learned)


def read_reference(
    query: Float[Tensor, "d_model"], sources: Sequence[Float[Tensor, "*tokens d_model"]], eps: float, norm: Norm
) -> Float[Tensor, "*tokens d_model"]:
    """One read, as the formula reads."""
    mixture = depth_attention_reference(query, sources, eps)
    if norm.kind == NONE:
        return mixture
    assert norm.weight is not None
    if norm.kind == RMS:
        return rms_norm_reference(mixture, norm.weight, norm.eps)
    return F.layer_norm(mixture, norm.weight.shape, norm.weight, norm.bias, norm.eps)


class _Found:
    """One read's numbers, `[all_tokens, sources]`: scores and weights; and the mixture, as it is and normalised."""

    def __init__(self, history: History, norm: Norm) -> None:
        like = (history.fresh or history.values)[0]
        self.index, self.passage, self.kind = history.reads, history.passage, norm.kind
        self.eps, self.norm_eps = history.eps, norm.eps
        self.query = history.queries[history.reads]
        self.tokens = like.numel() // like.shape[-1]
        self._place(history, like)
        self.weights, self.scores = self.query.new_empty(2, self.tokens, len(self.values)).unbind()
        self.statistics = None if norm.kind == NONE else self.query.new_empty(self.tokens, 2)
        self.mixture = torch.empty_like(like)
        self.result = self.mixture if norm.kind == NONE else torch.empty_like(like)
        self._compute(history, norm)

    def _place(self, history: History, like: Tensor) -> None:
        """The values in order; those from `place` on are new."""
        fresh = [one.detach() for one in history.fresh]
        self.sum = {}
        if history.grows:
            self.sum = {"before": history.values[-1], "update": fresh[0]}
            self.values = [*history.values[:-1], torch.empty_like(like)]
            self.passage.grown.add(history.reads)
        else:
            self.values = [*history.values, *fresh]
        self.place = len(self.values) - len(fresh)
        self.inverse = [*history.inverse[: self.place], *[self.query.new_empty(self.tokens) for _ in fresh]]

    def _compute(self, history: History, norm: Norm) -> None:
        tensors = {name: getattr(self, name) for name in ("query", "mixture", "result", "weights", "scores")}
        tensors |= {"statistics": self.statistics, **self.sum}
        for name, one in (("gain", norm.weight), ("bias", norm.bias)):
            tensors[name] = None if one is None else wide(one)
        others = {
            "n": len(self.values),
            "born": len(history.fresh),
            "tokens": self.tokens,
            "d": len(self.query),
            "threads": threads(self.tokens),
            "kind": norm.kind,
            "eps": history.eps,
            "norm_eps": norm.eps,
        }
        lists = {"sources": addresses(self.values), "inverse": addresses(self.inverse)}
        call("read", READ, lists, tensors, others)


def _graph(ctx: Any, *grad_outputs: Tensor | None) -> Grads:
    def result(queries: Tensor, gain: Tensor | None, bias: Tensor | None, *sources: Tensor) -> Tensor:
        norm = Norm(kind=ctx.kind, weight=gain, bias=bias, eps=ctx.norm_eps)
        return read_reference(queries[ctx.index], sources, ctx.eps, norm)

    return None, *graph(ctx, result, (grad_outputs[0], grad_outputs[2]))


class _Read(torch.autograd.Function):
    """One read; its backward also gathers the gradients of the sources that came with it."""

    @staticmethod
    def forward(ctx: Any, found: _Found, *tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """The result, the thread to the next read, and what stands in the graph for a sum.

        Given queries, gain, bias, the thread here, fresh sources.
        """
        queries, gain, bias, thread, *fresh = tensors
        assert queries is not None
        ctx.set_materialize_grads(False)
        ctx.first, ctx.kind, ctx.eps, ctx.norm_eps = thread is None, found.kind, found.eps, found.norm_eps
        ctx.index, ctx.place, ctx.passage = found.index, found.place, found.passage
        ctx.passage.nodes[ctx.index] = ref(ctx)
        values, room = fresh, None
        if found.sum:
            values, room = [found.values[-1]], found.result.new_zeros(()).expand(found.result.shape)
        kept = Saved(found.mixture, found.weights, found.scores, found.statistics, queries, gain, bias, room)
        ctx.save_for_backward(*kept, *found.inverse[found.place :], *values)
        return found.result, found.result.new_empty(0), room

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Grads:  # pyrefly: ignore[bad-override]
        """As `forward`'s arguments; the first read, whose turn is the last, brings the gradient of all queries."""
        return None, *Backward(ctx).run(grad_outputs[0], grad_outputs[2])
