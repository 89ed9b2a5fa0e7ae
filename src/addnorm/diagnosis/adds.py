"""The sums `state + f(state)` of a forward, and the chains that they form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.tape import Op, Value
from addnorm.diagnosis.torch_names import MERGES, PLAIN_SUMS

READ_AGAIN = 3  # merges of one output; two running sums (ResiDual) make two


@dataclass(eq=False)
class ResidualAdd:
    """`out = skip + branch`, where the branch was computed from what the skip is made of.

    So is one more vector beside others in a stack that a depth attention reads.

    Args:
        out, skip, branch: values.
        source: the latest value that the skip is made of and that the branch was computed from.
        before: the add whose result reaches `skip`; None at the entrance of a chain.
        normed: whether a norm lies between (Post-LN).
        length: adds of the chain up to here.
        merges: how many sums and stacks of the forward the branch goes into.
        inside: of a depth attention that reads sums of some outputs: the last add of the sum that `branch` is.
        alone: whether it opens such a sum, or is not summed at all.
    """

    op: Op
    out: int
    skip: int
    branch: int
    source: int
    before: ResidualAdd | None = None
    normed: bool = False
    length: int = 1
    merges: int = 1
    inside: ResidualAdd | None = None
    alone: bool = False

    @property
    def within(self) -> int:
        """The call of a module that adds."""
        return 0 if self.alone else self.op.call


def residual_adds(skeleton: Skeleton) -> list[ResidualAdd]:
    """All residual adds of a forward, each with the one before it."""
    groups = [group for op in skeleton.tape.ops if (group := _adds_of(skeleton, op))]
    merges = Counter(skeleton.root(add.branch) for group in groups for add in group)
    found: list[ResidualAdd] = []
    by_value: dict[int, ResidualAdd] = {}
    for group in groups:
        for add in group:
            add.merges = merges[skeleton.root(add.branch)]
        for add in _kept(group):
            _link(skeleton, add, by_value)
            found.append(add)
            by_value[add.out] = add
    return found


def chains(skeleton: Skeleton, adds: list[ResidualAdd]) -> list[list[ResidualAdd]]:
    """The longest chains, none within a sublayer of another, in the order of the forward."""
    found, left = [], list(adds)
    while left:
        folded = _chain(max(left, key=lambda add: (add.length, add.out)), left, skeleton)
        chain = _unfolded(skeleton, folded)
        found.append(chain)
        covered = {id(add) for add in (*folded, *chain)}
        left = [add for add in left if id(add) not in covered and not _is_inside(skeleton, add, chain)]
        left = [add for add in left if add.before is None or id(add.before) not in covered]
    return sorted(found, key=lambda chain: chain[0].out)


def reads_history(chain: Sequence[ResidualAdd]) -> bool:
    """Whether outputs stand alone and are weighed anew again and again: a depth attention."""
    return any(add.alone for add in chain)


def _adds_of(skeleton: Skeleton, op: Op) -> list[ResidualAdd]:
    """The add that an operation is; of a stack of vectors, one for each vector after the first."""
    if op.name in PLAIN_SUMS:
        add = _residual_add(skeleton, op)
        return [] if add is None else [add]
    if op.name not in MERGES or len(op.outputs) != 1:
        return []
    vectors, found = _vectors(skeleton, op), []
    for at in range(1, len(vectors)):
        source = _source(skeleton, vectors[:at], skeleton.value(vectors[at]))
        if source is None:
            return []
        add = ResidualAdd(op, op.outputs[0], vectors[at - 1], vectors[at], source)
        add.before = found[-1] if found else None
        found.append(add)
    return found


def _kept(group: list[ResidualAdd]) -> list[ResidualAdd]:
    """A sum as it is; a stack if its vectors are read again, but for the last, which may be read once."""
    stacked = group[0].op.name in MERGES
    if stacked and not (len(group) > 1 and all(add.merges > 1 for add in group[:-1])):
        return []
    return group


def _vectors(skeleton: Skeleton, op: Op) -> list[int]:
    """What a stack holds, also where it is made of smaller stacks; none if it joins features."""
    found: list[int] = []
    for each in op.inputs:
        value, inner = skeleton.value(each), skeleton.op_of(skeleton.root(each))
        if value.tensor.shape[-1:] != skeleton.value(op.outputs[0]).tensor.shape[-1:]:
            return []
        if inner is not None and inner.name in MERGES:
            found += _vectors(skeleton, inner)
        elif value.tensor.numel() and not value.constant:
            found.append(skeleton.root(each))
    return found


def _unfolded(skeleton: Skeleton, chain: list[ResidualAdd]) -> list[ResidualAdd]:
    """With the adds of the sums that a depth attention reads; the first of a sum is alone."""
    again = [add.merges for add in chain if add.merges > 1]
    if 2 * len(again) < len(chain) or max(again) < READ_AGAIN:
        return chain
    found: list[ResidualAdd] = []
    for add in chain:
        inner = _outermost(skeleton, add.inside)
        value = skeleton.root(inner[0].skip if inner else add.branch)
        op = skeleton.op_of(value) or add.op
        found.append(replace(add, op=op, out=value, branch=value, inside=None, alone=True))
        found += inner
    return found


def _outermost(skeleton: Skeleton, last: ResidualAdd | None) -> list[ResidualAdd]:
    """A chain without what happens deeper in modules than the rest."""
    found: list[ResidualAdd] = []
    while last is not None:
        found.insert(0, last)
        last = last.before
    depths = [len(list(skeleton.tape.callers(add.op.call))) for add in found]
    return [add for add, depth in zip(found, depths, strict=True) if depth == min(depths)]


def _chain(last: ResidualAdd, left: list[ResidualAdd], skeleton: Skeleton) -> list[ResidualAdd]:
    """The chain that ends in an add; an end that lies within a sublayer of the chain gives way to what holds it."""
    chain = []
    add: ResidualAdd | None = last
    while add is not None and any(add is one for one in left):
        chain.insert(0, add)
        add = add.before
    holders = [one for one in left if one.before in chain and one not in chain]
    for holder in reversed(holders):
        at = next(i for i, one in enumerate(chain) if one is holder.before) + 1
        if len(chain[at:]) <= 3 and any(_is_within(skeleton, inner, holder) for inner in chain[at:]):
            return _chain(max(_after(holder, left), key=lambda one: one.length), left, skeleton)
    return chain


def _after(add: ResidualAdd, left: list[ResidualAdd]) -> list[ResidualAdd]:
    """An add and all whose chain goes through it."""
    found = [add]
    for one in left:
        if one.before in found:
            found.append(one)
    return found


def _is_inside(skeleton: Skeleton, add: ResidualAdd, chain: list[ResidualAdd]) -> bool:
    return any(_is_within(skeleton, add, outer) for outer in chain)


def _is_within(skeleton: Skeleton, inner: ResidualAdd, outer: ResidualAdd) -> bool:
    """Whether an add happens in the branch of another."""
    branch, made = skeleton.value(outer.branch), skeleton.value(inner.out)
    return inner is not outer and branch.depends_on(made) and made.depends_on(skeleton.value(outer.source))


def _residual_add(skeleton: Skeleton, op: Op) -> ResidualAdd | None:
    if len(op.outputs) != 1:
        return None
    out = skeleton.value(op.outputs[0])
    width = out.tensor.shape[-1:]
    operands = [each for each in op.inputs if not skeleton.value(each).constant]
    if op.name == "addcmul":  # x + gate * f
        operands = [each for each in operands if skeleton.value(each).tensor.shape[-1:] == width]
    if len(operands) != 2 or operands[0] == operands[1] or out.tensor.ndim < 2:
        return None
    if any(skeleton.value(each).tensor.shape[-1:] != width for each in operands):
        return None
    for skip, branch in (operands, operands[::-1]):
        source = _source(skeleton, [skip], skeleton.value(branch))
        if source is not None:
            return ResidualAdd(op, out.index, skip, branch, source)
    return None


def _source(skeleton: Skeleton, skip: list[int], branch: Value) -> int | None:
    """What the skip is made of and the branch was computed from, by a matrix on the way."""
    of_branch: set[int] | None = None
    for value, _ in skeleton.carried(*skip):
        if not branch.depends_on(skeleton.value(value)) or skeleton.value(value).constant:
            continue
        if of_branch is None:
            of_branch = {each for each, _ in skeleton.carried(branch.index)}
        if value not in of_branch and _has_matrix(skeleton, skeleton.value(value), branch):
            return value
    return None


def _has_matrix(skeleton: Skeleton, source: Value, branch: Value) -> bool:
    for op in reversed(skeleton.matrix_ops):
        made = skeleton.value(op.outputs[0])
        if made.index < source.index:
            return False
        if branch.depends_on(made) and made.depends_on(source):
            return True
    return False


def _link(skeleton: Skeleton, add: ResidualAdd, by_value: dict[int, ResidualAdd]) -> None:
    """Tell an add the one before it, and the length of the chain so far."""
    if add.before is None:
        for value, normed in skeleton.carried(add.skip, norms=True):
            if value in by_value:
                add.before, add.normed = by_value[value], normed
                break
    if add.before is not None:
        add.length = add.before.length + 1
    if add.merges > 1 or add.before is not None and add.before.inside is not None:
        add.inside = by_value.get(skeleton.root(add.branch))
        add.length += add.inside.length if add.inside else 0
