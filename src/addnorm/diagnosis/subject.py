"""What a measure is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn

from addnorm.diagnosis.decomposition import Decomposition, decompose
from addnorm.diagnosis.trace import Trace
from addnorm.diagnosis.write_map import WriteMap, write_maps

Along = Literal["state", "sublayer", "block", "attention", "source"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model, what one batch left on its trunk, and a way to run the batch again.

    Args:
        trace: of the batch.
        model: as it was traced.
        loss: the batch's, as the model is now, with a gradient if one is asked for; None where there are no targets.
        run: the batch through the model, for what needs no loss; None where it can't be run again.
    """

    trace: Trace
    model: nn.Module
    loss: Callable[[], Tensor] | None = None
    run: Callable[[], Any] | None = None

    @cached_property
    def write_maps(self) -> list[WriteMap]:
        """What each write does to the state."""
        return write_maps(self.trace, self.model)

    @cached_property
    def decomposition(self) -> Decomposition | None:
        """Of the final state into what wrote it; None where the trace has no final state."""
        return decompose(self.trace, self.model, self.write_maps)

    @property
    def forward(self) -> Callable[[], Any] | None:
        """Anything that runs the batch."""
        return self.run or self.loss

    @property
    def sublayer_names(self) -> tuple[str, ...]:
        """Of the modules that write, by depth."""
        return tuple(sublayer.name for sublayer in self.trace.trunk.sublayers)

    def blocks(self) -> list[tuple[str, int, int]]:
        """Each block's name, and the states before and after it, by depth."""
        found: list[tuple[str, int, int]] = []
        for i, sublayer in enumerate(self.trace.trunk.sublayers):
            if sublayer.block is None:
                continue
            if found and found[-1][0] == sublayer.block:
                found[-1] = (sublayer.block, found[-1][1], i + 1)
            else:
                found.append((sublayer.block, i, i + 1))
        return found


@dataclass(frozen=True, kw_only=True)
class Series:
    """One entry for each depth: a number, a row of numbers, or None where nothing could be measured.

    Args:
        name: of the measure.
        along: what an entry belongs to.
        values: the entries.
        places: the name of what each entry belongs to; empty where the depth alone says it.
        label: what is measured, with its unit, in a few words.
    """

    name: str
    along: Along
    values: Sequence[Any]
    places: Sequence[str] = ()
    label: str = ""


def rows(x: Tensor, mask: Tensor | None, trailing: int = 1) -> Tensor:
    """The real tokens in one dimension, in float64.

    Args:
        x: `(*tokens, ...)`.
        mask: which tokens are real; None = all.
        trailing: dimensions after the tokens.
    """
    flat = x.detach().reshape(-1, *x.shape[x.dim() - trailing :]).double()
    return flat if mask is None else flat[mask.reshape(-1).bool()]


def sequences(x: Tensor, mask: Tensor | None, trailing: int = 1) -> Iterator[Tensor]:
    """The real tokens of each sequence as `(tokens, features)` in float64, where there are two at least."""
    tokens = x.shape[x.dim() - trailing - 1] if x.dim() > trailing else 1
    every = x.detach().reshape(-1, tokens, x.shape[x.dim() - trailing :].numel()).double()
    kept = [None] * len(every) if mask is None else mask.reshape(-1, tokens).bool()
    for one, keep in zip(every, kept, strict=True):
        real = one if keep is None else one[keep]
        if len(real) > 1:
            yield real


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return sum(values) / len(values) if values else None
