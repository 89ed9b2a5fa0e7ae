"""Which module wrote what a residual add adds, through which norms it read and wrote, and what kind it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from addnorm.diagnosis.adds import ResidualAdd
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.tape import Call, Op, Value
from addnorm.diagnosis.torch_names import ATTENTIONS, CURVED, GATES, OVER_TOKENS, SAME, SCALINGS
from addnorm.diagnosis.trunk import SublayerKind

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_FEEDFORWARD = re.compile(r"mlp|ffn|ff\b|feed_?forward|moe|expert|densereludense|\bfc\d", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """One term of what is added to the state.

    Args:
        value: the term as it is added.
        made: what the sublayer itself returned.
        call: the call of the module; None for a bare function.
        name: dotted name of the module that computed it; "" for a bare function.
        norm_after: dotted name of the norm between.
        kind: what the sublayer does.
    """

    value: int
    made: int
    call: Call | None
    name: str
    norm_after: str | None
    kind: SublayerKind


def writers(skeleton: Skeleton, add: ResidualAdd) -> list[Writer]:
    """Who wrote an add's branch, in the order of the forward: two for a parallel block."""
    terms = sorted(_terms(skeleton, add.branch, add), key=lambda term: skeleton.root(term))
    return [_writer(skeleton, term, add) for term in terms]


def norm_between(skeleton: Skeleton, source: int, branch: int) -> tuple[int, str] | None:
    """The norm through which a branch reads a state: its output and its name."""
    state, end = skeleton.root(source), skeleton.value(branch)
    for made, (given, name) in sorted(skeleton.norms.items()):
        if made < branch and skeleton.root(given) == state and end.depends_on(skeleton.value(made)):
            return made, name
    return None


def parameters_between(skeleton: Skeleton, source: int, term: int) -> tuple[str, ...]:
    """Names of the parameters that a term needs after a state."""
    names = skeleton.parameter_names
    used: dict[str, None] = {}
    for op in _between(skeleton, term, source):
        for value in _learned(skeleton, op.inputs):
            if id(value.tensor) in names:
                used[names[id(value.tensor)]] = None
    return tuple(used)


def _learned(skeleton: Skeleton, inputs: list[int]) -> Iterator[Value]:
    """The parameters among some values, also those seen through functions of parameters alone."""
    for value in map(skeleton.value, inputs):
        op = skeleton.op_of(value.index)
        if value.parameter:
            yield value
        elif value.learned and op is not None:
            yield from _learned(skeleton, op.inputs)


def _terms(skeleton: Skeleton, value: int, add: ResidualAdd) -> list[int]:
    """The terms of a branch that are sums of the same module's own."""
    value_op = skeleton.op_of(value)
    if value_op is None or value in skeleton.norms or value_op.call != add.within:
        return [value]
    if value_op.name in SAME and value_op.inputs:
        inner = _terms(skeleton, value_op.inputs[0], add)
        return inner if len(inner) > 1 else [value]
    operands = [each for each in value_op.inputs if not skeleton.value(each).constant]
    source = skeleton.value(add.source)
    if value_op.name not in ("add", "iadd", "radd") or len(operands) != 2:
        return [value]
    if not all(skeleton.value(each).depends_on(source) for each in operands):
        return [value]
    if skeleton.value(operands[0]).tensor.shape != skeleton.value(operands[1]).tensor.shape:
        return [value]
    return [term for each in operands for term in _terms(skeleton, each, add)]


def _writer(skeleton: Skeleton, term: int, add: ResidualAdd) -> Writer:
    norm_after, value, call = None, term, None
    for value, call in _back(skeleton, term, add):
        if value in skeleton.norms:
            norm_after = norm_after or skeleton.norms[value][1]
        elif call is not None and not _is_transparent(skeleton, call):
            break
    name = call.name if call is not None else ""
    kind = _kind(skeleton, call, value, add.source)
    return Writer(value=term, made=value, call=call, name=name, norm_after=norm_after, kind=kind)


def written(skeleton: Skeleton, writer: Writer, add: ResidualAdd, shape: tuple[int, ...]) -> int:
    """The last form of a term that is one vector a token, after its own norm; the term itself if none is."""
    for value, _ in _back(skeleton, writer.value, add):
        if tuple(skeleton.value(value).tensor.shape) == shape:
            return value
        if value == writer.made:
            break
    return writer.value


def _back(skeleton: Skeleton, value: int, add: ResidualAdd) -> Iterator[tuple[int, Call | None]]:
    """From what is added back through norms, gains and views, each with the module that returned it."""
    while True:
        call = skeleton.call_of_output(value, add.within)
        yield value, call
        if value in skeleton.norms:
            value = skeleton.norms[value][0]
            continue
        if call is not None and _is_transparent(skeleton, call):
            value = call.inputs[0]
            continue
        op = skeleton.op_of(value)
        if op is None or op.name not in SAME | SCALINGS:
            return
        sources = [each for each, _ in skeleton.edges(value)]
        if not sources:
            return
        value = max(sources, key=lambda each: not _is_gate(skeleton, each))


def _is_gate(skeleton: Skeleton, value: int) -> bool:
    op = skeleton.op_of(skeleton.root(value))
    return op is not None and op.name in GATES


def _is_transparent(skeleton: Skeleton, call: Call) -> bool:
    """Whether a module only scales what it is given: LayerScale, dropout, stochastic depth."""
    if len(call.inputs) != 1 or len(call.outputs) != 1 or call.inputs == call.outputs:
        return False
    if any(parameter.ndim > 1 and min(parameter.shape) > 1 for parameter in call.module.parameters()):
        return False
    return any(value == call.inputs[0] for value, _ in skeleton.carried(call.outputs[0], floor=call.inputs[0]))


def is_whole(skeleton: Skeleton, call: Call | None) -> bool:
    """Whether a module's call is a sublayer, not the last of its linears."""
    if call is None:
        return False
    ops = skeleton.tape.ops[call.first : call.last]
    return sum(skeleton.has_matrix(op) for op in ops) > 1 or any(op.name in ATTENTIONS for op in ops)


def _kind(skeleton: Skeleton, call: Call | None, value: int, source: int) -> SublayerKind:
    between = list(_between(skeleton, value, source))
    if call is not None and is_whole(skeleton, call):
        between = [op for op in between if call.first <= op.index < call.last]
    attends = [op for op in between if _attends(skeleton, op)]
    if attends:
        keys = [skeleton.value(op.inputs[min(1, len(op.inputs) - 1)]) for op in attends]
        # Keys come from elsewhere, and only the queries from the state.
        crosses = any(not key.depends_on(skeleton.value(source)) for key in keys)
        return "cross-attention" if crosses and len(attends[0].inputs) > 1 else "attention"
    own_name = "" if call is None else f"{call.name.rpartition('.')[2]} {type(call.module).__name__}"
    if _ATTENTION.search(own_name):
        return "attention"
    if _FEEDFORWARD.search(own_name):
        return "feedforward"
    matrices = [op for op in between if skeleton.has_matrix(op)]
    if any(op.name in OVER_TOKENS and op not in matrices for op in between):
        return "other"
    return "feedforward" if len(matrices) >= 2 and any(op.name in CURVED for op in between) else "other"


def _attends(skeleton: Skeleton, op: Op) -> bool:
    """Whether it is an attention, or the product of a softmax and values."""
    if op.name in ATTENTIONS:
        return not skeleton.value(op.inputs[0]).constant  # a learned query looks at depths
    if op.name not in ("matmul", "bmm", "einsum", "baddbmm") or len(op.inputs) < 2:
        return False
    made = skeleton.op_of(skeleton.root(op.inputs[0])), skeleton.op_of(skeleton.root(op.inputs[1]))
    if op.name == "einsum":
        return any(one is not None and one.name == "softmax" for one in made)
    return made[0] is not None and made[0].name == "softmax"


def _between(skeleton: Skeleton, value: int, source: int) -> Iterator[Op]:
    """The operations that a value needs after a state, in their order."""
    end, start = skeleton.value(value), skeleton.value(source)
    first = -1 if start.made_by is None else start.made_by
    for op in skeleton.tape.ops[first + 1 : (end.made_by or 0) + 1]:
        made = skeleton.value(op.outputs[0])
        if op.outputs[0] <= value and end.depends_on(made) and made.depends_on(start):
            yield op
