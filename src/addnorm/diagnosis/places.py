"""Where a trunk lies in a model: its blocks, who holds them, and how sure all this is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from addnorm.diagnosis.adds import ResidualAdd
from addnorm.diagnosis.layouts import Layout
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.trunk import Layout as Kind
from addnorm.diagnosis.trunk import Sublayer


def blocks_of(skeleton: Skeleton, chain: list[ResidualAdd]) -> tuple[dict[int, str | None], str]:
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


def certainty(skeleton: Skeleton, sublayers: Sequence[Sublayer], last: int) -> float:
    """How much of what a trunk shows is there: a way to the output, blocks, and blocks that are alike."""
    outputs = [skeleton.value(index) for index in skeleton.tape.calls[0].outputs]
    ends = any(output.depends_on(skeleton.value(last)) for output in outputs)
    counts = Counter(Counter(one.block for one in sublayers if one.block is not None).values())
    alike = max(counts.values()) / sum(counts.values()) if counts else 0.5
    return round(0.4 + 0.3 * ends + 0.3 * alike * min(1.0, len(sublayers) / 4), 2)


def evidence(skeleton: Skeleton, sublayers: Sequence[Sublayer], kind: Kind, layout: Layout, weighed: bool) -> str:
    """What was seen, in one sentence."""
    blocks = list(dict.fromkeys(one.block for one in sublayers if one.block is not None))
    named = dict(skeleton.tape.model.named_modules())
    classes = sorted({type(named[block]).__name__ for block in blocks if block in named})
    where = f"in {len(blocks)} blocks of {', '.join(classes)}" if blocks else "outside of any block"
    what = {
        "one stream": "is added to what they read",
        "streams": f"is added to {layout.streams} streams ({layout.where})",
        "depth attention": "is kept and weighed anew by later reads" if weighed else "is kept for later sums",
    }[kind]
    return f"{len(sublayers)} sublayers whose output {what}, {where}."


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
