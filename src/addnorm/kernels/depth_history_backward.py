"""The backward of attention over depth along a stack: what its reads leave for each other, and the gathering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from addnorm.kernels.depth_history_call import GATHER, NONE, addresses, call, numbers, threads
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
        self.grad_queries = like.new_zeros(threads, *queries)


class Passage:
    """One forward through the stack, as its backwards see it."""

    def __init__(self) -> None:
        self.passes: dict[int, _Pass] = {}
        self.grown: set[int] = set()  # reads whose newest source took the place of the one before it

    def current(self, tokens: int, queries: tuple[int, ...], like: Tensor) -> _Pass:
        """The pass that runs now; forgotten when it ends."""
        number = torch._C._current_graph_task_id()
        if number not in self.passes:
            self.passes[number] = _Pass(threads(tokens), queries, like)
            torch.autograd.Variable._execution_engine.queue_callback(lambda: self._forget(number))
        return self.passes[number]

    def _forget(self, number: int) -> None:
        self.passes.pop(number, None)


class Backward:
    """The backward of one read, in one pass of backward."""

    def __init__(self, ctx: Any) -> None:
        self.ctx, self.sums = ctx, None
        self.mixture, self.query, weights, scores, self.statistics, self.gain, *rest = ctx.saved_tensors
        self.inverse, self.values = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        self.tokens, self.d = weights.shape[0], len(self.query)
        self.current = ctx.passage.current(self.tokens, ctx.queries, self.query)
        self.own = _Turn(index=ctx.index, query=self.query, weights=weights, scores=scores)
        self.current.turns[ctx.index] = self.own

    def run(self, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the queries, the norm's gain and bias, the thread (none), and what was fresh."""
        needs = self.ctx.needs_input_grad
        through, found = {} if grad is None else self._through_norm(grad.contiguous()), []
        # The newest first, as reads that stand alone get their turns.
        for later, pair in reversed(list(enumerate(zip(self.values, self.inverse, strict=True)))):
            found.insert(0, self._gather(self.ctx.place + later, pair, through))
            through = {}
        if self.ctx.index in self.ctx.passage.grown:
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
        own.grad = torch.empty_like(grad)
        self.sums = self.query.new_zeros(2, len(self.current.grad_queries), self.d)
        of_bias = self.sums[1] if self.ctx.biased else None
        return found | {
            "grad_mixture": own.grad,
            "gain": wide(self.gain),
            "grad_gain": self.sums[0],
            "grad_bias": of_bias,
        }

    def _of_norm(self) -> tuple[Tensor | None, Tensor | None]:
        if self.sums is None:
            return None, None
        of_gain, of_bias = self.sums.sum(1).to(self.gain.dtype)
        return of_gain, of_bias if self.ctx.biased else None

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
        first, size = of_queries.data_ptr(), of_queries.element_size() * self.d
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
