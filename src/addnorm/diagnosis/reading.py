"""What a sublayer was given, and through which norm it read the state."""

from __future__ import annotations

from addnorm.diagnosis.adds import ResidualAdd
from addnorm.diagnosis.layouts import Layout
from addnorm.diagnosis.naming import Writer, is_whole, norm_between
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.states import Course


def read_of(
    skeleton: Skeleton, add: ResidualAdd, writer: Writer, layout: Layout, course: Course
) -> tuple[int | None, str | None]:
    """The value that a sublayer read, and its norm's name."""
    if layout.streams == 1 and not course.history:
        made, name = norm_between(skeleton, add.source, writer.value) or (add.source, None)
        return made, name
    read = _given(skeleton, add, writer, layout)
    if read is None:
        return None, None
    whole = {value for state in course.states if state is not None for value in state.made_of}
    for value, _ in skeleton.carried(read, norms=True, stops=whole):
        if value in skeleton.norms and value not in whole:
            return read, skeleton.norms[value][1]
    return read, None


def _given(skeleton: Skeleton, add: ResidualAdd, writer: Writer, layout: Layout) -> int | None:
    """One vector a token that the sublayer's module was given, or that its first matrix multiplies."""
    source = skeleton.value(add.source)
    operands: list[int] = []
    if writer.call is not None and is_whole(skeleton, writer.call):
        operands = writer.call.inputs
    else:
        end = skeleton.value(writer.value)
        for op in skeleton.matrix_ops:
            if op.outputs[0] > add.source and end.depends_on(skeleton.value(op.outputs[0])):
                operands += op.inputs[:1]
    for each in operands:
        value = skeleton.value(each)
        if tuple(value.tensor.shape) == layout.vector and value.depends_on(source):
            return each
    return None
