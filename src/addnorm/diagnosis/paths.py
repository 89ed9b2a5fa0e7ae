"""A trunk with the values of one forward: where each state, read and write lies on the tape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from addnorm.diagnosis.adds import ResidualAdd, chains, reads_history, residual_adds
from addnorm.diagnosis.ends import head_of, way_out
from addnorm.diagnosis.layouts import Layout, layout_of, whole_state
from addnorm.diagnosis.naming import Writer, parameters_between, writers, written
from addnorm.diagnosis.places import blocks_of, certainty, evidence
from addnorm.diagnosis.reading import read_of
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.states import Course, course_of
from addnorm.diagnosis.tape import Tape, Value
from addnorm.diagnosis.trunk import Layout as Kind
from addnorm.diagnosis.trunk import Sublayer, Trunk


@dataclass(frozen=True, kw_only=True)
class ChainWrite:
    """One write of a chain.

    Args:
        add: the residual add; several sites of a parallel block have the same.
        writer: who wrote the term.
        written: the value that is the write.
        read: what the sublayer was given; None where it is not to be seen.
        norm_before: the name of the norm that made it.
        state: the value that is the state after the write, or its newest vector; None where the sum is not made yet.
    """

    add: ResidualAdd
    writer: Writer
    written: int
    read: int | None
    norm_before: str | None
    state: int | None


@dataclass(frozen=True, kw_only=True)
class Path:
    """A trunk and where it lies on a tape."""

    trunk: Trunk
    sites: list[ChainWrite]
    course: Course
    layout: Layout
    hidden: int
    final: int

    @property
    def entrance(self) -> int:
        """The value before the first sublayer."""
        return next(state.values[0] for state in self.course.states if state is not None)

    @property
    def values(self) -> Iterator[int]:
        """All that the states are made of."""
        return (value for state in self.course.states if state is not None for value in state.made_of)

    def states(self, tape: Tape) -> list[Tensor]:
        """`(*tokens, n, d_model)`; within a parallel block the sum so far."""
        found: list[Tensor] = []
        for state, write in zip(self.course.states, [None, *self.writes(tape)], strict=True):
            if state is not None:
                found.append(state.vectors(self.layout, lambda value: tape.values[value].tensor.detach()))
            elif write is not None:
                found.append(found[-1] + write.unsqueeze(-2))
        return found

    def writes(self, tape: Tape) -> list[Tensor]:
        """`(*tokens, d_model)`, as they are added; of one that differs from stream to stream, the streams' mean."""
        found = []
        for site in self.sites:
            write = tape.values[site.written].tensor.detach()
            if tuple(write.shape) == self.layout.shape and self.layout.streams > 1:
                write = self.layout.vectors(write).mean(-2)
            elif write.numel() == math.prod(self.layout.vector):
                write = write.reshape(self.layout.vector)
            elif self.layout.streams == 1:
                write = write.expand(self.layout.vector)
            if self.layout.streams > 1:  # where they are mixed in another precision
                write = write.to(tape.values[site.writer.made].tensor.dtype)
            found.append(_factor(site.add) * write)
        return found

    def ends(self, tape: Tape) -> list[Tensor | None]:
        """What the final norm was given and what it made; None of several streams that nothing collapses."""
        found = [tape.values[index].tensor.detach() for index in (self.hidden, self.final)]
        alone = self.layout.streams == 1
        return [
            one if alone or one.shape[-1:] == self.layout.vector[-1:] and one.dim() == len(self.layout.vector) else None
            for one in found
        ]

    def gradients(self, tape: Tape, found: dict[int, Tensor]) -> list[Tensor | None]:
        """In the layout of `states`; that of a sum so far is that of the sum."""
        gradients: list[Tensor | None] = []
        for state in reversed(self.course.states):
            if state is None:
                gradients.insert(0, gradients[0])
            elif any(value in found for value in state.made_of):
                gradients.insert(0, state.vectors(self.layout, lambda value: _gradient(tape, found, value)))
            else:
                gradients.insert(0, None)
        return gradients


def paths(tape: Tape) -> list[Path]:
    """The trunks of a forward, in its order."""
    skeleton = Skeleton(tape)
    found = [chain for chain in chains(skeleton, residual_adds(skeleton)) if len(chain) > 1]
    return [_path(skeleton, chain, found) for chain in found]


def _path(skeleton: Skeleton, chain: list[ResidualAdd], all_chains: list[list[ResidualAdd]]) -> Path:
    pairs = [(add, writer) for add in chain for writer in writers(skeleton, add)]
    layout = layout_of(skeleton, pairs)
    _put_sources_at_states(skeleton, chain, layout)
    course = course_of(skeleton, chain, [add for add, _ in pairs], layout)
    after = [None if state is None else state.values[-1] for state in course.states[1:]]
    sites = [_site(skeleton, *pair, state, layout, course) for pair, state in zip(pairs, after, strict=True)]
    hidden, final, final_norm = way_out(skeleton, course, layout)
    blocks, holder = blocks_of(skeleton, chain)
    sublayers = tuple(
        Sublayer(
            index=index,
            name=site.writer.name,
            block=blocks[id(site.add)],
            kind=site.writer.kind,
            norm_before=site.norm_before,
            norm_after=site.writer.norm_after,
            norm_on_trunk=course.norms[index],
            parameters=parameters_between(skeleton, site.add.source, site.writer.value),
        )
        for index, site in enumerate(sites)
    )
    kind: Kind = "depth attention" if course.history else "streams" if layout.streams > 1 else "one stream"
    streams = max(len(state.values) for state in course.states if state is not None)
    trunk = Trunk(
        name=holder,
        layout=kind,
        streams=max(layout.streams, streams),
        where=layout.where,
        sublayers=sublayers,
        final_norm=final_norm,
        head=head_of(skeleton, final, all_chains),
        certainty=certainty(skeleton, sublayers, chain[-1].out),
        evidence=evidence(skeleton, sublayers, kind, layout, reads_history(chain)),
    )
    return Path(trunk=trunk, sites=sites, course=course, layout=layout, hidden=hidden, final=final)


def _put_sources_at_states(skeleton: Skeleton, chain: list[ResidualAdd], layout: Layout) -> None:
    """The source of a sum of whole states is the whole state, not streams that are mixed already."""
    for add in chain:
        if layout.streams > 1 and tuple(skeleton.value(add.out).tensor.shape) == layout.shape:
            whole = whole_state(skeleton, add.source, layout)
            add.source = add.source if whole is None else whole


def _site(
    skeleton: Skeleton, add: ResidualAdd, writer: Writer, state: int | None, layout: Layout, course: Course
) -> ChainWrite:
    read, norm = read_of(skeleton, add, writer, layout, course)
    value = writer.value
    if layout.streams > 1:
        value = written(skeleton, writer, add, layout.vector)
    return ChainWrite(add=add, writer=writer, written=value, read=read, norm_before=norm, state=state)


def _gradient(tape: Tape, found: dict[int, Tensor], value: int) -> Tensor:
    return (
        found[value]
        if value in found
        else tape.values[value].tensor.detach().new_zeros(()).expand_as(tape.values[value].tensor)
    )


def _factor(add: ResidualAdd) -> float:
    """By what factor the add itself takes a term: `x - y`, `add(x, y, alpha=2)`."""
    alpha = add.op.kwargs.get("alpha", 1)
    last = add.op.args[-1] if add.op.args else None
    second = isinstance(last, Value) and last.index == add.branch
    if not second or add.alone:
        return 1.0
    return (-1.0 if add.op.name in ("sub", "isub", "subtract") else 1.0) * alpha
