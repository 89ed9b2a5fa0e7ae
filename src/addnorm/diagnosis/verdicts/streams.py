"""Several streams: mixed by the transposed matrix, all alike behind a place, or one that nothing ever changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.diagnosis.finding import Cause, Finding
from addnorm.diagnosis.subject import Subject, rows

ALIKE, APART = 1 - 1e-6, 0.999
"""Mean cosines between streams: equal to rounding, and told apart."""
SUMS = 1e-3
"""How near to 1 the sums of a mixing matrix are that are meant to be 1."""


def streams(subject: Subject) -> list[Finding]:
    """From the trace and the mixing that was recovered from it; nothing of one stream or a history.

    Streams that are equal from the entrance on are none: several schemes start so, and training parts them. Nor are
    doubly stochastic matrices seen to be transposed, whose transposes are doubly stochastic too.
    """
    if subject.trace.trunk.layout != "streams" or subject.trace.trunk.streams < 2:
        return []
    return [*_transposed(subject), *_alike(subject), *_frozen(subject)]


def _transposed(subject: Subject) -> list[Finding]:
    """Row sums of 1 at most sites (each new stream is a mean of old ones), and at one site column sums of 1 instead."""
    kinds = [_sums(write.mixing) if write.determined and write.error < SUMS else None for write in subject.write_maps]
    found = []
    for usual, other in (("rows", "columns"), ("columns", "rows")):
        known = [kind for kind in kinds if kind is not None]
        if known.count(usual) < max(3, 0.75 * len(known)):
            continue
        for i, kind in enumerate(kinds):
            if kind == other:
                seen = f"the {other} of its mixing matrix sum to 1, elsewhere the {usual} of {known.count(usual)}."
                found.append(_at(subject, i, "transposed mixing", seen, "Mix by the transposed matrix."))
    return found


def _sums(mixing: Tensor | None) -> str | None:
    """Which sums of a mixing matrix are 1 at all tokens: "rows", "columns", "both"; None if neither."""
    if mixing is None or mixing.shape[-1] != mixing.shape[-2]:
        return None
    in_rows = bool((mixing.sum(-1) - 1).abs().max() < SUMS)
    in_columns = bool((mixing.sum(-2) - 1).abs().max() < SUMS)
    return {(True, True): "both", (True, False): "rows", (False, True): "columns"}.get((in_rows, in_columns))


def _alike(subject: Subject) -> list[Finding]:
    """The first sublayer behind which all streams are the same, where they were not before."""
    cosines = [_least_cosine(rows(state, subject.trace.mask, 2)) for state in subject.trace.states]
    for i, (before, after) in enumerate(zip(cosines, cosines[1:], strict=False)):
        if before < APART and after > ALIKE:
            seen = f"the least mean cosine between two streams goes from {before:.3f} to {after:.6f}."
            remedy = "Look for a mean over the streams, or a mixing matrix of equal rows."
            return [_at(subject, i, "homogenised streams", seen, remedy)]
    return []


def _least_cosine(state: Tensor) -> float:
    unit = F.normalize(state, dim=-1, eps=1e-30)
    return float((unit @ unit.transpose(-1, -2)).mean(0).min())


def _frozen(subject: Subject) -> list[Finding]:
    """A stream that is the same at all depths, bit for bit, while others are not."""
    states = [rows(state, subject.trace.mask, 2) for state in subject.trace.states]
    if len({state.shape for state in states}) > 1:
        return []
    frozen = [
        j for j in range(states[0].shape[-2]) if all(torch.equal(state[:, j], states[0][:, j]) for state in states)
    ]
    if not frozen or len(frozen) == states[0].shape[-2]:
        return []
    which = f"stream{'s' * (len(frozen) > 1)} {', '.join(map(str, frozen))} of {states[0].shape[-2]}"
    return [
        Finding(
            cause="frozen streams",
            place=subject.trace.trunk.name or "the trunk",
            evidence=f"{which} never changes from entrance to exit.",
            remedy="Let its write gate or its mixing start away from zero, and be trained.",
        )
    ]


def _at(subject: Subject, i: int, cause: Cause, evidence: str, remedy: str) -> Finding:
    sublayer = subject.trace.trunk.sublayers[i]
    place = sublayer.name or sublayer.block or "the model"
    return Finding(cause=cause, place=place, site=i, evidence=evidence, remedy=remedy)
