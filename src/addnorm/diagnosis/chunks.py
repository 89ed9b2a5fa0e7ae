"""A batch in parts that fit memory, and the traces of the parts as that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from addnorm.diagnosis.trace import Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Some samples of a batch.

    Args:
        batch: as the whole.
        targets: theirs.
        share: of the whole batch's loss, a mean over samples or over tokens that have a target.
    """

    batch: Any
    targets: Tensor | None
    share: float


def rows_of(batch: Any) -> int:
    """Samples in a batch: the first dimension of its first tensor."""
    return next((leaf.shape[0] for leaf in _tensors(batch) if leaf.ndim), 1)


def parts_of(batch: Any, targets: Tensor | None, rows: int) -> Iterator[Chunk]:
    """The batch, `rows` samples at a time."""
    size = rows_of(batch)
    if rows >= size:
        yield Chunk(batch=batch, targets=targets, share=1.0)
        return
    for start in range(0, size, rows):
        some = slice(start, start + rows)
        part = tree_map(lambda leaf: leaf[some] if _has_samples(leaf, size) else leaf, _plain(batch))  # noqa: B023
        yield Chunk(batch=part, targets=None if targets is None else targets[some], share=_share(size, targets, some))


def joined(parts: Sequence[Sequence[Trace]]) -> list[Trace]:
    """One trace a trunk."""
    return [_joined(traces) if len(traces) > 1 else traces[0] for traces in zip(*parts, strict=True)]


def _joined(traces: Sequence[Trace]) -> Trace:
    first = traces[0]

    def of(field: Callable[[Trace], Any]) -> Any:
        found = [field(trace) for trace in traces]
        return None if any(one is None for one in found) else torch.cat(found)

    return replace(
        first,
        states=[of(lambda trace: trace.states[i]) for i in range(len(first.states))],  # noqa: B023
        reads=[of(lambda trace: trace.reads[i]) for i in range(len(first.reads))],  # noqa: B023
        writes=[of(lambda trace: trace.writes[i]) for i in range(len(first.writes))],  # noqa: B023
        state_gradients=[of(lambda trace: trace.state_gradients[i]) for i in range(len(first.state_gradients))],  # noqa: B023
        hidden=of(lambda trace: trace.hidden),
        final=of(lambda trace: trace.final),
        loss=None if first.loss is None else sum(trace.loss or 0.0 for trace in traces),
        mask=of(lambda trace: trace.mask),
        attention={name: of(lambda trace: trace.attention[name]) for name in first.attention},  # noqa: B023
        non_finite=next((trace.non_finite for trace in traces if trace.non_finite), None),
    )


def _share(size: int, targets: Tensor | None, some: slice) -> float:
    if targets is None:
        return len(range(size)[some]) / size
    return float((targets[some] != -100).sum() / (targets != -100).sum())


def _has_samples(leaf: Any, size: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


def _plain(batch: Any) -> Any:
    return dict(batch) if hasattr(batch, "keys") else batch


def _tensors(batch: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(_plain(batch)) if isinstance(leaf, Tensor)]
