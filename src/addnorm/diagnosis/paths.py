"""A trunk with the values of one forward: where each state, read and write lies on the tape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from addnorm.diagnosis.adds import ResidualAdd, chains, residual_adds
from addnorm.diagnosis.naming import Writer, norm_between, parameters_between, writers
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.tape import Tape, Value
from addnorm.diagnosis.trunk import Sublayer, Trunk


@dataclass(eq=False, kw_only=True)
class Site:
    """One write of a chain.

    Args:
        add: the residual add; several sites of a parallel block have the same.
        writer: who wrote the term.
        read: what the sublayer was given.
        norm_before: the name of the norm that made it.
        state: the state after the write; None where the sum is not made yet.
        norm_on_trunk: the name of the norm of the sum.
    """

    add: ResidualAdd
    writer: Writer
    read: int
    norm_before: str | None
    state: int | None
    norm_on_trunk: str | None


@dataclass(eq=False, kw_only=True)
class Path:
    """A trunk and where it lies on a tape."""

    trunk: Trunk
    entrance: int
    sites: list[Site]
    hidden: int
    final: int

    @property
    def values(self) -> list[int]:
        """Of the states that were made."""
        return [self.entrance, *(site.state for site in self.sites if site.state is not None)]

    def states(self, tape: Tape) -> list[Tensor]:
        """`(*tokens, 1, d_model)`; within a parallel block the sum so far."""
        found = [tape.values[self.entrance].tensor.detach()]
        for site, write in zip(self.sites, self.writes(tape), strict=True):
            found.append(found[-1] + write if site.state is None else tape.values[site.state].tensor.detach())
        return [state.unsqueeze(-2) for state in found]

    def writes(self, tape: Tape) -> list[Tensor]:
        """`(*tokens, d_model)`, as they are added."""
        found = []
        for site in self.sites:
            write = tape.values[site.writer.value].tensor.detach()
            out = tape.values[site.add.out].tensor
            found.append(_sign(site.add, site.writer.value) * write.expand_as(out).to(out.dtype))
        return found

    def gradients(self, tape: Tape, found: dict[int, Tensor]) -> list[Tensor | None]:
        """In the layout of `states`; that of a sum so far is that of the sum."""
        gradients: list[Tensor | None] = []
        for site in reversed(self.sites):
            gradients.insert(0, gradients[0] if site.state is None else found.get(site.state))
        return [None if one is None else one.unsqueeze(-2) for one in [found.get(self.entrance), *gradients]]


def _sign(add: ResidualAdd, term: int) -> float:
    """By what factor the add itself takes a term: `x - y`, `add(x, y, alpha=2)`."""
    alpha = add.op.kwargs.get("alpha", 1)
    second = isinstance(add.op.args[-1], Value) and add.op.args[-1].index == add.branch
    return (-1.0 if add.op.name in ("sub", "isub", "subtract") else 1.0) * alpha if second else 1.0


def paths(tape: Tape) -> list[Path]:
    """The trunks of a forward, in its order."""
    skeleton = Skeleton(tape)
    found = [chain for chain in chains(skeleton, residual_adds(skeleton)) if len(chain) > 1]
    return [_path(skeleton, chain, found) for chain in found]


def _path(skeleton: Skeleton, chain: list[ResidualAdd], all_chains: list[list[ResidualAdd]]) -> Path:
    sites = [site for add in chain for site in _sites(skeleton, add)]
    _put_norms_on_trunk(skeleton, chain, sites)
    last = sites[-1].state
    assert last is not None
    hidden, final, final_norm = _way_out(skeleton, last)
    blocks, holder = _blocks(skeleton, chain)
    sublayers = tuple(
        Sublayer(
            index=index,
            name=site.writer.name,
            block=blocks[id(site.add)],
            kind=site.writer.kind,
            norm_before=site.norm_before,
            norm_after=site.writer.norm_after,
            norm_on_trunk=site.norm_on_trunk,
            parameters=parameters_between(skeleton, site.add.source, site.writer.value),
        )
        for index, site in enumerate(sites)
    )
    trunk = Trunk(
        name=holder,
        layout="one stream",
        streams=1,
        where="alone",
        sublayers=sublayers,
        final_norm=final_norm,
        head=_head(skeleton, final, all_chains),
        certainty=_certainty(skeleton, sublayers, last),
        evidence=_evidence(skeleton, sublayers),
    )
    return Path(trunk=trunk, entrance=chain[0].source, sites=sites, hidden=hidden, final=final)


def _sites(skeleton: Skeleton, add: ResidualAdd) -> list[Site]:
    found = []
    for writer in writers(skeleton, add):
        norm = norm_between(skeleton, add.source, writer.value)
        read, name = norm or (add.source, None)
        site = Site(add=add, writer=writer, read=read, norm_before=name, state=None, norm_on_trunk=None)
        found.append(site)
    found[-1].state = add.out
    return found


def _put_norms_on_trunk(skeleton: Skeleton, chain: list[ResidualAdd], sites: list[Site]) -> None:
    """Post-LN: the state is what the norm makes of the sum."""
    following: list[ResidualAdd | None] = [*chain[1:], None]
    any_normed = any(add.normed for add in chain)
    for add, after in zip(chain, following, strict=True):
        if after is not None and not after.normed or after is None and not any_normed:
            continue
        norm = _norm_of_sum(skeleton, add.out, None if after is None else after.skip)
        if norm is None:
            continue
        for site in sites:
            if site.add is add and site.state is not None:
                site.state, site.norm_on_trunk = norm


def _norm_of_sum(skeleton: Skeleton, out: int, skip: int | None) -> tuple[int, str] | None:
    reaches = None if skip is None else {value for value, _ in skeleton.carried(skip, norms=True)}
    for made, (given, name) in sorted(skeleton.norms.items()):
        if skeleton.root(given) == skeleton.root(out) and (reaches is None or made in reaches):
            return made, name
    return None


def _way_out(skeleton: Skeleton, last: int) -> tuple[int, int, str | None]:
    """What the final norm is given, what it makes of it, and its name."""
    for made, (given, name) in sorted(skeleton.norms.items()):
        if made > last and skeleton.root(given) == skeleton.root(last):
            return given, made, name
    return last, last, None


def _head(skeleton: Skeleton, final: int, all_chains: Sequence[Sequence[ResidualAdd]]) -> str | None:
    """The linear that reads what the final norm made; no other trunk and no other matrix reads what it makes."""
    outs = [skeleton.value(chain[-1].out) for chain in all_chains]
    for op in skeleton.matrix_ops:
        if op.name != "linear" or not any(each == final for each, _ in skeleton.carried(op.inputs[0], floor=final)):
            continue
        made, name = skeleton.value(op.outputs[0]), skeleton.tape.calls[op.call].name
        later = [*outs, *(skeleton.value(one.outputs[0]) for one in skeleton.matrix_ops if one is not op)]
        if "pool" not in name and not any(other.depends_on(made) for other in later):
            return name
    return None


def _blocks(skeleton: Skeleton, chain: list[ResidualAdd]) -> tuple[dict[int, str | None], str]:
    """The block that each add lies in, and the module that holds the blocks.

    A block is what the first number in a name counts that is not the same for all.
    """
    owners = [skeleton.tape.calls[add.op.call].name.split(".") for add in chain]
    for depth in range(min(map(len, owners))):
        parts = {names[depth] for names in owners}
        if len(parts) > 1 and all(part.isdecimal() for part in parts):
            names = [".".join(names[: depth + 1]) for names in owners]
            return {id(add): name for add, name in zip(chain, names, strict=True)}, _owner(skeleton, owners[0][:depth])
        if len(parts) > 1:
            break
    return {id(add): None for add in chain}, _common(skeleton, chain)


def _owner(skeleton: Skeleton, container: list[str]) -> str:
    """The module that has the list of blocks: whatever is called, and the list is not."""
    called = {call.name for call in skeleton.tape.calls}
    while container and ".".join(container) not in called:
        container = container[:-1]
    return ".".join(container)


def _common(skeleton: Skeleton, chain: list[ResidualAdd]) -> str:
    """The innermost module that all adds happen in."""
    callers = [[call.name for call in skeleton.tape.callers(add.op.call)] for add in chain]
    return next((name for name in callers[0] if all(name in names for names in callers)), "")


def _certainty(skeleton: Skeleton, sublayers: Sequence[Sublayer], last: int) -> float:
    """How much of what a trunk shows is there: a way to the output, blocks, and blocks that are alike."""
    outputs = [skeleton.value(index) for index in skeleton.tape.calls[0].outputs]
    ends = any(output.depends_on(skeleton.value(last)) for output in outputs)
    counts = Counter(Counter(one.block for one in sublayers if one.block is not None).values())
    alike = max(counts.values()) / sum(counts.values()) if counts else 0.5
    return round(0.4 + 0.3 * ends + 0.3 * alike * min(1.0, len(sublayers) / 4), 2)


def _evidence(skeleton: Skeleton, sublayers: Sequence[Sublayer]) -> str:
    blocks = list(dict.fromkeys(one.block for one in sublayers if one.block is not None))
    named = dict(skeleton.tape.model.named_modules())
    classes = sorted({type(named[block]).__name__ for block in blocks if block in named})
    where = f"in {len(blocks)} blocks of {', '.join(classes)}" if blocks else "outside of any block"
    return f"{len(sublayers)} sublayers whose output is added to what they read, one after another, {where}."
