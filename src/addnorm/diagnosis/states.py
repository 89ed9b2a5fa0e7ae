"""The states of a trunk on a tape: before its first sublayer and after each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from addnorm.diagnosis.adds import ResidualAdd, reads_history
from addnorm.diagnosis.layouts import Layout, State, whole_state
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.torch_names import CASTS


@dataclass(frozen=True, kw_only=True)
class Course:
    """The states by depth.

    Args:
        states: one more than writes; None within a parallel block, where the sum is not made yet.
        norms: of each write, the name of the norm of the sum.
        history: whether states hold what was earlier, to be weighed anew.
    """

    states: list[State | None]
    norms: list[str | None]
    history: bool

    @property
    def last(self) -> State:
        """After all sublayers."""
        found = self.states[-1]
        assert found is not None
        return found


def course_of(skeleton: Skeleton, chain: Sequence[ResidualAdd], adds: Sequence[ResidualAdd], layout: Layout) -> Course:
    """The states of a chain.

    Args:
        chain: its adds.
        adds: of each write, its add.
    """
    nothing: list[str | None] = [None] * len(adds)
    if reads_history(chain):
        return Course(states=[*_of_history(skeleton, chain)], norms=nothing, history=True)
    if layout.streams > 1:
        states = [State(values=(_entrance(skeleton, chain[0], layout),)), *_of_streams(skeleton, chain, layout)]
        return Course(states=_spread(chain, adds, states), norms=nothing, history=False)
    kept = _kept(skeleton, chain)
    entrance = skeleton.root(chain[0].source)
    if kept - {entrance}:
        return Course(states=_spread(chain, adds, _of_kept(skeleton, chain, kept)), norms=nothing, history=True)
    values, names = _of_one(skeleton, chain)
    states = [State(values=(_first(skeleton, chain[0], layout),)), *(State(values=(value,)) for value in values)]
    last = [i + 1 == len(adds) or adds[i + 1] is not add for i, add in enumerate(adds)]
    by_add = dict(zip(map(id, chain), names, strict=True))
    norms = [by_add[id(add)] if is_last else None for add, is_last in zip(adds, last, strict=True)]
    return Course(states=_spread(chain, adds, states), norms=norms, history=False)


def _spread(chain: Sequence[ResidualAdd], adds: Sequence[ResidualAdd], states: list[State]) -> list[State | None]:
    """The state after the last write of each add; None after the others."""
    found: list[State | None] = [states[0]]
    after = dict(zip(map(id, chain), states[1:], strict=True))
    for i, add in enumerate(adds):
        found.append(after[id(add)] if i + 1 == len(adds) or adds[i + 1] is not add else None)
    return found


def _of_one(skeleton: Skeleton, chain: Sequence[ResidualAdd]) -> tuple[list[int], list[str | None]]:
    """Of one stream: the sum, or what a norm makes of it (Post-LN), and that norm's name."""
    values: list[int] = []
    names: list[str | None] = []
    any_normed = any(add.normed for add in chain)
    for add, after in zip(chain, [*chain[1:], None], strict=True):
        normed = any_normed if after is None else after.normed
        norm = _norm_of_sum(skeleton, add.out, None if after is None else after.skip) if normed else None
        value, name = norm or (settled(skeleton, add.out), None)
        values.append(value)
        names.append(name)
    return values, names


def settled(skeleton: Skeleton, out: int) -> int:
    """A sum in the precision that the model keeps it in, where it was made in another."""
    after, made = skeleton.consumers.get(out, []), skeleton.op_of(out)
    if len(after) != 1 or after[0].name not in CASTS or made is None or after[0].call != made.call:
        return out
    cast = after[0].outputs[0]
    sizes = [skeleton.value(each).tensor.element_size() for each in (cast, out)]
    return cast if sizes[0] < sizes[1] else out


def _norm_of_sum(skeleton: Skeleton, out: int, skip: int | None) -> tuple[int, str] | None:
    reaches = None if skip is None else {value for value, _ in skeleton.carried(skip, norms=True)}
    for made, (given, name) in sorted(skeleton.norms.items()):
        if skeleton.root(given) == skeleton.root(out) and (reaches is None or made in reaches):
            return made, name
    return None


def _of_history(skeleton: Skeleton, chain: Sequence[ResidualAdd]) -> list[State]:
    """All that may be read: the entrance, each finished sum, and the one that grows."""
    vectors = [skeleton.root(chain[0].source)]
    found = [State(values=tuple(vectors))]
    for add in chain:
        vectors = [*vectors, add.out] if add.alone else [*vectors[:-1], add.out]
        found.append(State(values=tuple(vectors)))
    return found


def _kept(skeleton: Skeleton, chain: Sequence[ResidualAdd]) -> set[int]:
    """Earlier states of one stream that later ones are made of, not only the last."""
    stops = {skeleton.root(chain[0].source), *(add.out for add in chain)}
    kept: set[int] = set()
    for value in [*(add.skip for add in chain), _ahead(skeleton, chain[-1].out)]:
        reached = [each for each, _ in skeleton.carried(value, stops=stops) if each in stops]
        kept.update(reached[1:])
    return kept


def _ahead(skeleton: Skeleton, last: int) -> int:
    """What the norm after the last sum is given."""
    for _, (given, _) in sorted(skeleton.norms.items()):
        if given > last and any(value == last for value, _ in skeleton.carried(given, floor=last)):
            return given
    return last


def _of_kept(skeleton: Skeleton, chain: Sequence[ResidualAdd], kept: set[int]) -> list[State]:
    """What is kept so far, and the stream itself."""
    entrance = skeleton.root(chain[0].source)
    found = [State(values=(entrance,))]
    for add, after in zip(chain, [*chain[1:], None], strict=True):
        now = skeleton.root(_ahead(skeleton, add.out) if after is None else after.source)
        earlier = [value for value in sorted(kept) if value <= add.out and value != now]
        found.append(State(values=(*earlier, now)))
    return found


def _first(skeleton: Skeleton, first: ResidualAdd, layout: Layout) -> int:
    """The source of the first sum; where that holds more than the state (frac-connections), what it was made of."""
    for value, _ in skeleton.carried(first.source):
        if skeleton.value(value).tensor.numel() == math.prod(layout.vector):
            return value
    return first.source


def _entrance(skeleton: Skeleton, first: ResidualAdd, layout: Layout) -> int:
    """The whole state that the first block was given."""
    found = None
    for value, _ in skeleton.carried(first.skip):
        if tuple(skeleton.value(value).tensor.shape) == layout.shape:
            found = value if found is None else found
            if any(value in call.inputs for call in skeleton.tape.callers(first.op.call)):
                return value
    return first.source if found is None else found


def _of_streams(skeleton: Skeleton, chain: Sequence[ResidualAdd], layout: Layout) -> list[State]:
    """The whole state that each sum makes or goes into; else the state before, with one stream moved on."""
    found = []
    for add, after in zip(chain, [*chain[1:], None], strict=True):
        whole = _whole_after(skeleton, add, after, layout)
        if whole is not None:
            found.append(State(values=(whole,)))
            continue
        before, stream = _active(skeleton, add, layout)
        found.append(State(values=(before,), active=(stream, add.out)))
    return found


def _whole_after(skeleton: Skeleton, add: ResidualAdd, after: ResidualAdd | None, layout: Layout) -> int | None:
    if tuple(skeleton.value(add.out).tensor.shape) == layout.shape:
        return settled(skeleton, add.out)
    outputs = [value for call in skeleton.tape.callers(add.op.call) for value in call.outputs]
    if after is not None and skeleton.tape.within(after.op.call, add.op.call):
        outputs = []  # more happens in this block
    for value in [*outputs, *([] if after is None else [after.skip])]:
        whole = whole_state(skeleton, value, layout, floor=add.out)
        if whole is not None and any(each == add.out for each, _ in skeleton.carried(whole, floor=add.out)):
            return whole
    return None


def _active(skeleton: Skeleton, add: ResidualAdd, layout: Layout) -> tuple[int, int]:
    """The whole state that a sum took one stream of, and which one."""
    for value, _ in skeleton.carried(add.skip):
        op = skeleton.op_of(value)
        if op is None or op.name not in ("getitem", "select") or not op.inputs:
            continue
        index = op.args[-1]
        if tuple(skeleton.value(op.inputs[0]).tensor.shape) == layout.shape and isinstance(index, int):
            return op.inputs[0], index
    return add.source, 0
