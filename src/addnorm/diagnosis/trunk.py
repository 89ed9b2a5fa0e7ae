"""The trunk of a model: the state that its sublayers read from and write to, whoever wrote the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["one stream", "streams", "depth attention"]
Where = Literal["alone", "own axis", "features", "first axis"]
SublayerKind = Literal["attention", "cross-attention", "feedforward", "block", "other"]


@dataclass(frozen=True, kw_only=True)
class Sublayer:
    """One place where something is written to the trunk.

    Args:
        index: 0 at the entrance, in the order of the forward.
        name: dotted name of the module whose output is written; "" where a bare function's is.
        block: dotted name of the repeated block that it lies in; None outside of any.
        kind: what it is, by what it does and by its name.
        norm_before: dotted name of the norm through which it reads; None if it reads the bare state.
        norm_after: dotted name of the norm of its output before it is written; None if there is none.
        norm_on_trunk: dotted name of the norm of the sum (Post-LN); None if the sum stays as it is. A norm that is a
            bare function has the name "".
        parameters: dotted names of all parameters between what it reads from the trunk and what it writes, its norms'
            among them; more than those of the module `name`, where a block has its linears side by side.
    """

    index: int
    name: str
    block: str | None = None
    kind: SublayerKind = "other"
    norm_before: str | None = None
    norm_after: str | None = None
    norm_on_trunk: str | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """The path from an embedding to the final norm; an encoder-decoder has two.

    Args:
        name: dotted name of the module that holds the blocks; "" for the model itself.
        layout: one vector a token; several streams of it; or all earlier outputs, weighted anew at each depth.
        streams: vectors a token of the state; of depth attention at its largest.
        where: where the streams lie in the model's own tensors: "alone", "own axis", "features", "first axis".
        sublayers: in the order of the forward.
        final_norm: dotted name of the norm after the last sublayer; None if there is none.
        head: dotted name of the linear from the hidden vector to logits; None if there is none.
        certainty: from 0 to 1.
        evidence: what was seen, in one sentence.
    """

    name: str
    layout: Layout
    streams: int
    where: Where
    sublayers: tuple[Sublayer, ...]
    final_norm: str | None
    head: str | None
    certainty: float
    evidence: str
