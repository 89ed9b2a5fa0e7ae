"""The backward of attention over depth along a stack: what its reads leave for each other, and the gathering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.depth_history_call import GATHER, NONE, addresses, call, numbers, threads
from addnorm.kernels.derivatives import Grads, gradients
from addnorm.kernels.precision import wide


@dataclass(kw_only=True)
class _Turn:
    """What the backward of one read leaves for the reads before it."""

    index: int
    query: Tensor
    weights: Tensor
    scores: Tensor
    grad: Tensor | None = None  # of the mixture; None if nothing came
    level: Tensor | None = None  # its product with the mixture
    carried: Tensor | None = None  # the gradient of a sum, for the value that grew into it


class _Pass:
    """One pass of backward: the turns of its reads, and each thread's gradient of the queries."""

    def __init__(self, threads: int, queries: tuple[int, ...], like: Tensor) -> None:
        self.turns: dict[int, _Turn] = {}
        self.left: dict[
            Place, Tensor | None
        ] = {}  # where the graph of a backward is asked for: gradients of earlier sources
        self.grad_queries = like.new_zeros(threads, *queries)


Place = tuple[int, int]
"""The read that a source came with, and which of those that came with it."""


class Passage:
    """One forward through the stack, as its backwards see it."""

    def __init__(self) -> None:
        self.passes: dict[int, _Pass] = {}
        self.nodes: dict[int, ref[Any]] = {}  # of autograd, one a read; they hold this passage, and each other
        self.grown: set[int] = set()  # reads whose newest source took the place of the one before it

    def current(self, tokens: int, queries: tuple[int, ...], like: Tensor) -> _Pass:
        """The pass that runs now; forgotten when it ends."""
        number = torch._C._current_graph_task_id()
        if number not in self.passes:
            self.passes[number] = _Pass(threads(tokens), queries, like)
            torch.autograd.Variable._execution_engine.queue_callback(lambda: self._forget(number))
        return self.passes[number]

    def sources(self, index: int) -> tuple[list[Tensor], list[Place], Place | None]:
        """What read `index` sees, in the graph; where each comes from; and what its own source grew from, if it did.

        A sum stands in the graph by the empty `room` that its read handed out: the sum itself was made by the kernel.
        """
        seen: list[Tensor] = []
        places: list[Place] = []
        before = None
        for number in range(index + 1):
            node = self.nodes[number]()
            assert node is not None  # each read holds the one before it
            kept, _, own = saved(node)
            if number in self.grown:
                assert kept.room is not None
                before, seen[-1], places[-1] = places[-1], own[0] + kept.room, (number, 0)
            else:
                before = None
                seen += own
                places += [(number, place) for place in range(len(own))]
        return seen, places, before

    def _forget(self, number: int) -> None:
        self.passes.pop(number, None)


class Saved(NamedTuple):
    """What a read keeps for its backward, before the numbers and the values of the sources that came with it."""

    mixture: Tensor
    weights: Tensor
    scores: Tensor
    statistics: Tensor | None
    queries: Tensor
    gain: Tensor | None
    bias: Tensor | None
    room: Tensor | None  # stands in the graph for a sum


def saved(node: Any) -> tuple[Saved, list[Tensor], list[Tensor]]:
    """What a read kept; one over the root mean squares of its own sources, and these."""
    tensors = node.saved_tensors
    own = tensors[len(Saved._fields) :]
    return Saved(*tensors[: len(Saved._fields)]), list(own[: len(own) // 2]), list(own[len(own) // 2 :])


def added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of gradients of which either may be missing."""
    return other if one is None else one if other is None else one + other


class Backward:
    """The backward of one read, in one pass of backward."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.sums: Tensor | None = None
        kept, self.inverse, self.values = saved(ctx)
        self.mixture, self.statistics, self.gain, self.biased = kept.mixture, kept.statistics, kept.gain, kept.bias
        self.query = kept.queries.detach()[ctx.index]
        self.tokens, self.d = kept.weights.shape[0], len(self.query)
        self.current = ctx.passage.current(self.tokens, tuple(kept.queries.shape), self.query)
        self.own = _Turn(index=ctx.index, query=self.query, weights=kept.weights, scores=kept.scores)
        self.current.turns[ctx.index] = self.own

    def run(self, grad: Tensor | None, of_room: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the queries, the norm's gain and bias, the thread (none), and what was fresh.

        Args:
            grad: of the result.
            of_room: of the sum, where others than reads have used it.
        """
        needs = self.ctx.needs_input_grad
        through, found = {} if grad is None else self._through_norm(grad.contiguous()), []
        # The newest first, as reads that stand alone get their turns.
        for later, pair in reversed(list(enumerate(zip(self.values, self.inverse, strict=True)))):
            found.insert(0, self._gather(self.ctx.place + later, pair, through))
            through = {}
        if self.ctx.index in self.ctx.passage.grown:
            found = [added(found[0], None if of_room is None else of_room.contiguous())]
            (self.own.carried,) = found
        of_queries = self.current.grad_queries.sum(0) if self.ctx.first and needs[1] else None
        return of_queries, *self._of_norm(), None, *found

    def _through_norm(self, grad: Tensor) -> dict[str, Tensor | None]:
        """What the kernel is to know, to take the gradient from the normalised mixture to the mixture."""
        own = self.own
        own.grad, own.level = grad, self.query.new_empty(self.tokens)
        found = {"grad": grad, "level": own.level, "statistics": self.statistics}
        if self.ctx.kind == NONE:
            return found
        assert self.gain is not None
        own.grad = torch.empty_like(grad)
        sums = self.sums = self.query.new_zeros(2, len(self.current.grad_queries), self.d)
        of_bias = None if self.biased is None else sums[1]
        return found | {
            "grad_mixture": own.grad,
            "gain": wide(self.gain),
            "grad_gain": sums[0],
            "grad_bias": of_bias,
        }

    def _of_norm(self) -> tuple[Tensor | None, Tensor | None]:
        if self.sums is None or self.gain is None:
            return None, None
        of_gain, of_bias = self.sums.sum(1).to(self.gain.dtype)
        return of_gain, None if self.biased is None else of_bias

    def _gather(self, place: int, pair: tuple[Tensor, Tensor], through: dict[str, Tensor | None]) -> Tensor | None:
        """The gradient of the value at `place`, or None; the norm's first if there is anything in `through`."""
        needs = self.ctx.needs_input_grad
        readers, carried = self._readers(place)
        if not (needs[1] or needs[4] or any(needs[5:])) or not (readers or carried is not None):
            self._call([], through, place)
            return None
        grad_value = torch.empty_like(pair[0])
        self._call(
            readers,
            {"value": pair[0], "inverse": pair[1], "carried": carried, "grad_value": grad_value, **through},
            place,
        )
        return grad_value

    def _readers(self, place: int) -> tuple[list[_Turn], Tensor | None]:
        """The reads of the value at `place` that got a gradient, and the gradient of the sum that it went into."""
        turns, after = self.current.turns, self.ctx.index + 1
        replaced = after in self.ctx.passage.grown and place == self.own.weights.shape[1] - 1
        seen = [self.own] if replaced else [turns[index] for index in sorted(turns, reverse=True)]
        carried = turns[after].carried if replaced and after in turns else None
        return [turn for turn in seen if turn.grad is not None], carried

    def _call(self, readers: list[_Turn], tensors: dict[str, Tensor | None], place: int) -> None:
        if not tensors:
            return
        of_queries = self.current.grad_queries
        (first,), size = native.addresses(of_queries), of_queries.element_size() * self.d
        lists = {
            "grads": addresses([turn.grad for turn in readers if turn.grad is not None]),
            "levels": addresses([turn.level for turn in readers if turn.level is not None]),
            "weights": addresses([turn.weights for turn in readers]),
            "scores": addresses([turn.scores for turn in readers]),
            "queries": addresses([turn.query for turn in readers]),
            "grad_queries": numbers([first + turn.index * size for turn in readers]),
            "widths": numbers([turn.weights.shape[1] for turn in readers]),
        }
        others = {"place": place, "reads": len(readers), "tokens": self.tokens, "d": self.d, "kind": self.ctx.kind}
        others |= {"threads": len(of_queries), "stride": of_queries[0].numel()}
        call("gather", GATHER, lists, {"mixture": self.mixture, **tensors}, others)


def graph(ctx: Any, formula: Callable[..., Tensor], grads: tuple[Tensor | None, Tensor | None]) -> Grads:
    """The same with its graph: each read takes the gradients of all its sources and leaves those of earlier ones.

    Args:
        ctx: of the read.
        formula: the result of queries, gain, bias and sources.
        grads: of the result and of the room.
    """
    kept, *_ = saved(ctx)
    sources, places, before = ctx.passage.sources(ctx.index)
    left = ctx.passage.current(len(kept.weights), tuple(kept.queries.shape), kept.queries).left
    inputs = [kept.queries, kept.gain, kept.bias, *sources]
    of_queries, of_gain, of_bias, *found = gradients(formula, inputs, grads[:1])
    for place, one in zip(places, found, strict=True):
        left[place] = added(left.get(place), one)
    own = [left.pop(place, None) for place in places if place[0] == ctx.index]
    if before is not None:
        own = [added(own[0], grads[1])]
        left[before] = added(left.get(before), own[0])
    return of_queries, of_gain, of_bias, None, *own
