"""The sums `state + f(state)` of a forward, and the chains that they form."""

from __future__ import annotations

from dataclasses import dataclass

from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.tape import Op, Value
from addnorm.diagnosis.torch_names import PLAIN_SUMS


@dataclass(eq=False)
class ResidualAdd:
    """`out = skip + branch`, where the branch was computed from what the skip is made of.

    Args:
        out, skip, branch: values.
        source: the latest value that the skip is made of and that the branch was computed from.
        before: the add whose result reaches `skip`; None at the entrance of a chain.
        normed: whether a norm lies between (Post-LN).
        length: adds of the chain up to here.
    """

    op: Op
    out: int
    skip: int
    branch: int
    source: int
    before: ResidualAdd | None = None
    normed: bool = False
    length: int = 1


def residual_adds(skeleton: Skeleton) -> list[ResidualAdd]:
    """All residual adds of a forward, each with the one before it."""
    found: list[ResidualAdd] = []
    by_value: dict[int, ResidualAdd] = {}
    for op in skeleton.tape.ops:
        add = _residual_add(skeleton, op)
        if add is not None:
            _link(skeleton, add, by_value)
            found.append(add)
            by_value[add.out] = add
    return found


def chains(skeleton: Skeleton, adds: list[ResidualAdd]) -> list[list[ResidualAdd]]:
    """The longest chains, none within a sublayer of another, in the order of the forward."""
    found, left = [], list(adds)
    while left:
        chain = _chain(max(left, key=lambda add: (add.length, add.out)), left, skeleton)
        found.append(chain)
        covered = {id(add) for add in chain}
        left = [add for add in left if id(add) not in covered and not _is_inside(skeleton, add, chain)]
        left = [add for add in left if add.before is None or id(add.before) not in covered]
    return sorted(found, key=lambda chain: chain[0].out)


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
    if op.name not in PLAIN_SUMS or len(op.outputs) != 1:
        return None
    operands = [each for each in op.inputs if not skeleton.value(each).constant]
    if len(operands) != 2 or operands[0] == operands[1]:
        return None
    out = skeleton.value(op.outputs[0])
    if out.tensor.ndim < 2 or any(skeleton.value(each).tensor.shape[-1:] != out.tensor.shape[-1:] for each in operands):
        return None
    for skip, branch in (operands, operands[::-1]):
        source = _source(skeleton, skip, skeleton.value(branch))
        if source is not None:
            return ResidualAdd(op, out.index, skip, branch, source)
    return None


def _source(skeleton: Skeleton, skip: int, branch: Value) -> int | None:
    """What the skip is made of and the branch was computed from, by a matrix on the way."""
    of_branch: set[int] | None = None
    for value, _ in skeleton.carried(skip):
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
    for value, normed in skeleton.carried(add.skip, norms=True):
        if value in by_value:
            add.before, add.normed = by_value[value], normed
            add.length = add.before.length + 1
            return
