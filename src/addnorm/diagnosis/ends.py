"""The way out of a trunk: its final norm, the hidden vector, the head."""

from __future__ import annotations

from collections.abc import Sequence

from addnorm.diagnosis.adds import ResidualAdd
from addnorm.diagnosis.layouts import Layout
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.states import Course


def way_out(skeleton: Skeleton, course: Course, layout: Layout) -> tuple[int, int, str | None]:
    """What the final norm is given, what it makes of it, and its name."""
    last = max(course.last.made_of)
    one = course.last.values[-1]
    for made, (given, name) in sorted(skeleton.norms.items()):
        plain = layout.streams == 1 and not course.history
        is_vector = plain or tuple(skeleton.value(given).tensor.shape) == layout.vector
        if made > last and is_vector and _reaches(skeleton, given, one, norms=course.history):
            return given, made, name
    if layout.streams == 1 and not course.history:
        return one, one, None
    found = _read_at_the_end(skeleton, one, layout)
    found = one if found is None else found
    return found, found, _norm_of_all(skeleton, one)


def _read_at_the_end(skeleton: Skeleton, last: int, layout: Layout) -> int | None:
    """One vector a token that a matrix reads after the last sublayer, or that is returned."""
    operands = [op.inputs[0] for op in skeleton.matrix_ops if op.outputs[0] > last]
    for each in [*operands, *skeleton.tape.calls[0].outputs]:
        if tuple(skeleton.value(each).tensor.shape) == layout.vector and _reaches(skeleton, each, last, norms=True):
            return each
    return None


def _norm_of_all(skeleton: Skeleton, last: int) -> str | None:
    """The norm of all streams together, before they become one."""
    for made, (given, name) in sorted(skeleton.norms.items()):
        if made > last and skeleton.root(given) == skeleton.root(last):
            return name
    return None


def _reaches(skeleton: Skeleton, value: int, source: int, *, norms: bool) -> bool:
    return any(each == source for each, _ in skeleton.carried(value, norms=norms, floor=source))


def head_of(skeleton: Skeleton, final: int, all_chains: Sequence[Sequence[ResidualAdd]]) -> str | None:
    """The linear that reads what the final norm made; no other trunk and no other matrix reads what it makes."""
    outs = [skeleton.value(chain[-1].out) for chain in all_chains]
    for op in skeleton.matrix_ops:
        if op.name != "linear" or not _reaches(skeleton, op.inputs[0], final, norms=False):
            continue
        made, name = skeleton.value(op.outputs[0]), skeleton.tape.calls[op.call].name
        later = [*outs, *(skeleton.value(one.outputs[0]) for one in skeleton.matrix_ops if one is not op)]
        if "pool" not in name and not any(other.depends_on(made) for other in later):
            return name
    return None
