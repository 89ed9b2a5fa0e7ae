"""A model in one table: what each sublayer holds, computes and keeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from addnorm.errors import UserError
from addnorm.kernels import native
from addnorm.models.body import Body
from addnorm.probes.flops import FlopCount
from addnorm.probes.memory import SavedBytes
from addnorm.probes.untouched import untouched
from addnorm.stack import Block, Stack

_HEADINGS = ("", "parameters", "of connections", "FLOPs/token", "bytes kept/token", "vectors carried")


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """Sublayers that are alike, or what stands around them, or the whole model.

    Args:
        name: what it is.
        count: how many of them.
        parameters: of one, those of its connection among them.
        connection_parameters: of its connection.
        flops: of a forward, a token.
        kept: bytes kept for the backward, a token.
        vectors: of the width, in the state behind it, a token; None for what has no state behind it.
    """

    name: str
    count: int = 1
    parameters: int
    connection_parameters: int
    flops: float
    kept: float
    vectors: float | None = None

    def cells(self) -> list[str]:
        """As text."""
        numbers = (self.parameters, self.connection_parameters, self.flops, self.kept)
        name = f"{self.count} x {self.name}" if self.count > 1 else self.name
        return [name, *(f"{number:,.0f}" for number in numbers), "" if self.vectors is None else f"{self.vectors:g}"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary:
    """The table: `print` it, or leave it in the last line of a notebook's cell."""

    rows: tuple[SummaryRow, ...]

    def __str__(self) -> str:
        cells = [list(_HEADINGS), *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = ("</td><td>".join(map(escape, line)) for line in [_HEADINGS, *(row.cells() for row in self.rows)])
        return f"<table>{''.join(f'<tr><td>{line}</td></tr>' for line in lines)}</table>"


def summary(model: nn.Module, *batch: Any) -> Summary:
    """Parameters, FLOPs and bytes a token, and the vectors that the state carries, sublayer by sublayer.

    FLOPs are those of one forward, as `torch.utils.flop_counter` counts them: 2mkn for a product of m x k and k x n,
    nothing for what is elementwise. Bytes are the storages that autograd keeps, each at the sublayer that first keeps
    it. Sublayers are watched one by one; the last row is the model as it runs unwatched, in which neighbours may share
    a kernel and keep less. In a model of several stacks its tokens are those of the last one.

    Args:
        model: one of `addnorm`, or a module that holds an `addnorm.Stack`; left as it was.
        batch: what its forward takes; a model of `addnorm` makes its own.

    Raises:
        UserError: there is no stack in the model, or it is none of `addnorm` and no batch came.

    Examples:
        >>> import addnorm
        >>> scheme = addnorm.schemes.parse("mhc")
        >>> model = addnorm.Transformer(scheme, vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> [row.vectors for row in addnorm.summary(model).rows[:2]]
        [4.0, 4.0]
    """
    stacks = {name: module for name, module in model.named_modules() if isinstance(module, Stack)}
    if not stacks:
        raise UserError(f"a {type(model).__name__} has no addnorm.Stack in it, so no sublayers to sum up.")
    if not batch and not isinstance(model, Body):
        raise UserError(f"a {type(model).__name__} needs a batch: summary(model, what its forward takes).")
    batch = batch or model.example()  # pyrefly: ignore
    with native.switched(False):
        computed = _spent(model, batch, FlopCount())
    kept = _spent(model, batch, SavedBytes(model))
    with untouched(model), torch.enable_grad(), SavedBytes(model) as unwatched:
        model(*batch)
    inner = [
        _row(f"{name}: " * (len(stacks) > 1), stack, place, computed, kept)
        for name, stack in stacks.items()
        for place in range(len(stack.blocks))
    ]
    tokens = computed.tokens[[*stacks.values()][-1]]
    parameters, connections = _count(model), sum(row.connection_parameters for row in inner)
    around = SummaryRow(
        name="what stands around them",
        parameters=parameters - sum(row.parameters for row in inner),
        connection_parameters=0,
        flops=(computed.total - sum(computed.of.values())) / tokens,
        kept=(kept.total - sum(kept.of.values())) / tokens,
    )
    whole = SummaryRow(
        name="the model",
        parameters=parameters,
        connection_parameters=connections,
        flops=computed.total / tokens,
        kept=unwatched.total / tokens,
    )
    alike = Counter(inner)
    return Summary(rows=(*(replace(row, count=count) for row, count in alike.items()), around, whole))


@dataclass(eq=False)
class _Spent:
    """What a meter counts within each block of a forward, and the sizes of what passes."""

    of: dict[nn.Module, float] = field(default_factory=dict)
    tokens: dict[nn.Module, int] = field(default_factory=dict)
    widths: dict[nn.Module, int] = field(default_factory=dict)
    numbers: dict[nn.Module, int] = field(default_factory=dict)
    total: float = 0.0


def _spent(model: nn.Module, batch: tuple[Any, ...], meter: Any) -> _Spent:
    """Run a forward under a meter, which has a `total` while it is entered."""
    spent, entered = _Spent(), []

    def enter(block: nn.Module, given: Any) -> None:
        entered.append(meter.total)

    def leave(block: nn.Module, given: Any, state: Any) -> None:
        spent.of[block] = spent.of.get(block, 0.0) + meter.total - entered.pop()
        leaves = {id(leaf): leaf.numel() for leaf in tree_leaves(state) if isinstance(leaf, Tensor)}
        spent.numbers[block] = sum(leaves.values())

    def begin(stack: nn.Module, given: Any) -> None:
        spent.widths[stack] = given[0].shape[-1]
        spent.tokens[stack] = given[0].numel() // given[0].shape[-1]

    hooks = []
    for module in model.modules():
        if isinstance(module, Block):
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        elif isinstance(module, Stack):
            hooks.append(module.register_forward_pre_hook(begin))
    try:
        with untouched(model), torch.enable_grad(), meter:
            model(*batch)
    finally:
        for hook in hooks:
            hook.remove()
    spent.total = meter.total
    return spent


def _row(prefix: str, stack: Stack, place: int, computed: _Spent, kept: _Spent) -> SummaryRow:
    block, tokens = stack.blocks[place], computed.tokens[stack]
    assert isinstance(block, Block)
    return SummaryRow(
        name=prefix + stack.sites[place].kind,
        parameters=_count(block),
        connection_parameters=_count(block.connection),
        flops=computed.of[block] / tokens,
        kept=kept.of[block] / tokens,
        vectors=computed.numbers[block] / tokens / computed.widths[stack],
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
