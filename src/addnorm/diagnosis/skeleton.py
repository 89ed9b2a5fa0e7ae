"""How a value hangs on others by sums, scalings, mixtures of streams and views alone: the skeleton of a forward.

What a sublayer computes does not belong to it: a matrix applied to features, an activation, a norm, an attention.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any, Literal

from addnorm.diagnosis.tape import Call, Op, Tape, Value
from addnorm.diagnosis.torch_names import (
    DIVISIONS,
    MIXINGS,
    NORMS,
    REDUCTIONS,
    SAME,
    SCALINGS,
    STATISTICS,
    SUMS,
    WEIGHINGS,
)

Edge = Literal["same", "scaled", "mixed", "norm"]

_NAMED_NORM = re.compile(r"norm|dyt|dynamictanh|derf|(^|\d|_)ln(_|\d|$)", re.IGNORECASE)


class Skeleton:
    """The graph of a tape, read as sums of vectors.

    Args:
        tape: what was recorded.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.norms: dict[int, tuple[int, str]] = {}  # value -> what was normalised, and the norm's name
        self.consumers: dict[int, list[Op]] = {}
        self.matrix_ops: list[Op] = []
        for op in tape.ops:
            for index in set(op.inputs):
                self.consumers.setdefault(index, []).append(op)
            if self.has_matrix(op):
                self.matrix_ops.append(op)
        self._find_norms()

    @cached_property
    def parameter_names(self) -> dict[int, str]:
        """The model's parameters by `id`, which stays theirs as long as the tape holds them."""
        return {id(parameter): name for name, parameter in self.tape.model.named_parameters()}

    def value(self, index: int) -> Value:
        """A value by its number."""
        return self.tape.values[index]

    def op_of(self, value: int) -> Op | None:
        """What made it."""
        made_by = self.value(value).made_by
        return None if made_by is None else self.tape.ops[made_by]

    def is_matrix(self, value: Value) -> bool:
        """Whether it is a parameter of at least two dimensions, or made of parameters alone."""
        return value.learned and value.tensor.ndim >= 2 and min(value.tensor.shape) > 1

    def has_matrix(self, op: Op) -> bool:
        """Whether it multiplies by a matrix of parameters."""
        if op.name in SAME or op.name in SUMS or op.name in SCALINGS or self.value(op.outputs[0]).constant:
            return False
        return any(self.is_matrix(self.value(index)) for index in op.inputs)

    def edges(self, value: int) -> list[tuple[int, Edge]]:
        """The values that it is a sum of, and what each went through; none if a sublayer made it."""
        if value in self.norms:
            return [(self.norms[value][0], "norm")]
        op = self.op_of(value)
        if op is None:
            return []
        if op.name in SAME:
            return [(each, "same") for each in op.inputs[:1] if not self._looks_up(op)]
        if op.name in SUMS:
            return [(each, "same") for each in op.inputs if not self.value(each).constant]
        if op.name in SCALINGS:
            return self._scaled(op)
        if op.name in REDUCTIONS and not _over_features(op):
            return [(each, "mixed") for each in op.inputs]
        if op.name == "scaled_dot_product_attention" and self.value(op.inputs[0]).constant:  # depths, not tokens
            return [(op.inputs[2], "mixed")]
        if op.name in MIXINGS:
            return [(each, "mixed") for each in op.inputs if self._mixes(op, each)]
        return []

    def carried(
        self, *start: int, norms: bool = False, floor: int = 0, stops: Collection[int] = ()
    ) -> Iterator[tuple[int, bool]]:
        """All values that some are sums of, the latest first, and whether a norm lies between.

        Args:
            norms: whether to look through norms.
            floor: the earliest value of interest.
            stops: values that are not looked behind.
        """
        seen: dict[int, bool] = dict.fromkeys(start, False)
        heap = [-value for value in seen]
        heapq.heapify(heap)
        while heap:
            value = -heapq.heappop(heap)
            yield value, seen[value]
            if value in stops:
                continue
            for source, kind in self.edges(value):
                if source < floor or kind == "norm" and not norms:
                    continue
                normed = seen[value] or kind == "norm"
                if source not in seen:
                    seen[source] = normed
                    heapq.heappush(heap, -source)
                seen[source] &= normed

    def root(self, value: int) -> int:
        """What it is another view of: without casts, reshapes, dropout."""
        while (op := self.op_of(value)) is not None and op.name in SAME and value not in self.norms and op.inputs:
            if self._looks_up(op):
                break
            value = op.inputs[0]
        return value

    def _looks_up(self, op: Op) -> bool:
        """Whether it takes rows of a table by ids: `table[tokens]` is no view of the table."""
        return self.value(op.inputs[0]).constant and not self.value(op.outputs[0]).constant

    def call_of_output(self, value: int, outside: int) -> Call | None:
        """The outermost call of a module that returned it, within another call; not one that hands on what it got."""
        made_by = self.value(value).made_by
        found = None
        if made_by is not None:
            for call in self.tape.callers(self.tape.ops[made_by].call):
                if call.index == outside or self.tape.within(outside, call.index):
                    break
                if value in call.outputs and not self._hands_on_like(call, value):
                    found = call
        return found

    def _scaled(self, op: Op) -> list[tuple[int, Edge]]:
        inputs = [each for each in op.inputs if not self.value(each).constant]
        if op.name == "addcmul" and inputs:
            return [(inputs[0], "same"), *((each, "scaled") for each in inputs[1:])]
        if op.name in DIVISIONS:
            inputs = [each for each in inputs if isinstance(op.args[0], Value) and op.args[0].index == each]
        whole = [each for each in inputs if self.value(each).tensor.shape[-1:] != (1,)]
        return [(each, "scaled") for each in whole]

    def _mixes(self, op: Op, operand: int) -> bool:
        """Whether a product mixes streams or depths of an operand, and not its features."""
        value = self.value(operand)
        if value.constant:
            return False
        others = [self.value(each) for each in op.inputs if each != operand]
        widest = max((max(other.tensor.shape[-2:], default=1) for other in others if other.constant), default=1)
        return widest <= 1 or 4 * widest <= max(value.tensor.shape[-2:])

    def is_norm(self, call: Call) -> bool:
        """Whether a call normalises: by what it computes, or by its name where it has no matrix."""
        if not call.inputs or len(call.outputs) != 1 or call.last < 0:
            return False
        given, made = self.value(call.inputs[0]), self.value(call.outputs[0])
        if given.tensor.shape != made.tensor.shape or made.index == given.index:
            return False
        if any(parameter.ndim > 1 and min(parameter.shape) > 1 for parameter in call.module.parameters()):
            return False
        ops = self.tape.ops[call.first : call.last]
        names = {op.name for op in ops}
        roots = any(op.name == "pow" and op.args[-1] in (-0.5, 0.5) for op in ops)
        if names & WEIGHINGS:
            return False
        return bool(names & STATISTICS or roots or _NAMED_NORM.search(type(call.module).__name__))

    def _find_norms(self) -> None:
        """Modules first, the outermost where one holds another; then functions, then what is written out."""
        covered = -1
        for call in self.tape.calls:
            if call.first >= covered and self.is_norm(call) and not self._hands_on(call):
                self.norms.setdefault(call.outputs[0], (call.inputs[0], call.name))
                covered = call.last
        inside = {op for call in self.tape.calls if call.outputs and call.outputs[0] in self.norms for op in _ops(call)}
        for op in self.tape.ops:
            if op.index in inside:
                continue
            if op.name in NORMS and op.inputs:
                self.norms[self._with_gain(op.outputs[0])] = (op.inputs[0], "")
            elif op.name in SCALINGS and (given := self._normed_by_hand(op)) is not None:
                self.norms[self._with_gain(op.outputs[0])] = (given, "")

    def _hands_on_like(self, call: Call, value: int) -> bool:
        """Whether a module also returns a tensor of that shape that it was given: a history, to which it adds one."""
        shape = self.value(value).tensor.shape
        return any(self.value(each).tensor.shape == shape for each in set(call.outputs) & set(call.inputs))

    def _hands_on(self, call: Call) -> bool:
        """Whether a module within was given the same and made what it returns."""
        later = self.tape.calls[call.index + 1 :]
        inner = (one for one in later if self.tape.within(one.index, call.index))
        return any(one.outputs == call.outputs and one.inputs[:1] == call.inputs[:1] for one in inner)

    def _normed_by_hand(self, op: Op) -> int | None:
        """What `x * r(x)` normalises: one number `r` a token, without a matrix in it."""
        operands = [self.value(each) for each in op.inputs if not self.value(each).constant]
        if len(operands) != 2:
            return None
        scale, given = sorted(operands, key=lambda value: value.tensor.shape[-1:] != (1,))
        root = self.value(self.root(given.index))
        if scale.tensor.shape[-1:] != (1,) or given.tensor.shape[-1:] == (1,) or not scale.depends_on(root):
            return None
        made = [self.value(each.outputs[0]) for each in self.matrix_ops if each.outputs[0] > root.index]
        by_matrix = any(scale.depends_on(one) and one.depends_on(root) for one in made)
        return None if by_matrix else self._before_centering(given.index)

    def _before_centering(self, value: int) -> int:
        """`x` of `x - mean(x)`."""
        op = self.op_of(value)
        if op is None or op.name not in ("sub", "isub", "subtract") or len(op.inputs) != 2:
            return value
        given, mean = op.inputs
        return given if self.value(mean).tensor.shape[-1:] == (1,) else value

    def _with_gain(self, value: int) -> int:
        """A norm's output after its gain and shift."""
        affine = ("mul", "imul", "add", "iadd", "to")
        while len(after := self.consumers.get(value, [])) == 1 and after[0].name in affine:
            others = [each for each in after[0].inputs if each != value]
            if not all(self.value(each).constant and not self.is_matrix(self.value(each)) for each in others):
                break
            value = after[0].outputs[0]
        return value


def _ops(call: Call) -> range:
    return range(call.first, call.last)


def _over_features(op: Op) -> bool:
    """Whether a sum or a mean runs over the last dimension."""
    dims: Any = op.kwargs.get("dim", op.args[1] if len(op.args) > 1 else None)
    if dims is None or not op.inputs or not isinstance(op.args[0], Value):
        return True
    rank = op.args[0].tensor.ndim
    dims = dims if isinstance(dims, tuple) else (dims,)
    return any(dim % rank == rank - 1 for dim in dims)
