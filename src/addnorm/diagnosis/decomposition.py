"""The final state as a sum: what came of the embedding, and of what each sublayer wrote.

    h = sum_j c_j + biases + remainder;    c_0 of the embedding, c_j of what sublayer j wrote

Each write is linear in the state (`addnorm.diagnosis.write_map`), a norm on the trunk with its scale held as it was in
this forward, so each part of the state can be followed through all that comes after it: A c of each site, through its
norm. The shifts of those norms are the biases. Elhage et al. 2021 (transformer-circuits.pub/2021/framework) do this for
one stream, where A = 1 and nothing has to be followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from addnorm.diagnosis.frozen_norm import frozen
from addnorm.diagnosis.trace import Trace
from addnorm.diagnosis.trunk import Trunk
from addnorm.diagnosis.write_map import VectorOrigin, View, WriteMap, fit, flat

CHUNK_BYTES = 2**28
WEIGHED = 1e-3  # of the size of the whole: a way out with a gate a feature, or a map, leaves a tenth and more


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """Of what the final norm was given.

    Args:
        total: `(all_tokens, d_model)`, the sum, as the model computed it; float64, as all that follows.
        parts: `(1 + L, all_tokens, d_model)`: of the embedding, of each sublayer.
        biases: `(all_tokens, d_model)`: of the norms on the trunk.
        remainder: `(all_tokens, d_model)`: what is of no known form; rounding where all is.
        weights: how strongly each vector of the last state counts, `(all_tokens, n)`; None where it is no weighing.
        sites: of each write, what is left over, of the size of the state after it.
        end: likewise of the way from the last state to the whole: large where it is no weighing of its vectors.
        state_error: what is left over of the last state, of its size, before its vectors become one.
    """

    total: Tensor
    parts: Tensor
    biases: Tensor
    remainder: Tensor
    weights: Tensor | None
    sites: tuple[float, ...]
    end: float
    state_error: float

    @property
    def error(self) -> float:
        """The remainder's size, of the size of the whole."""
        return float(self.remainder.norm() / self.total.norm().clamp_min(1e-300))


@torch.no_grad()
def decompose(trace: Trace, model: nn.Module, maps: Sequence[WriteMap]) -> Decomposition | None:
    """Follow the embedding and every write to the end; None where the trace does not have the end as such a sum."""
    if trace.hidden is None:
        return None
    total, last = flat(trace.hidden, 1), flat(trace.states[-1], 2)
    if total.shape != (len(last), last.shape[-1]):  # pooled, or projected, on the way
        return None
    nothing = last.new_empty(len(last), 0, last.shape[-1])
    way_out = fit(total[:, None], [last], nothing, _ways_out(trace, model), torch.finfo(trace.hidden.dtype).eps)[0]
    steps = [*(site.rows for site in maps), (way_out,)]
    states = [*(flat(state, 2) for state in trace.states), total[:, None]]
    writes = [flat(write, 1) for write in trace.writes]
    followed = [_followed(steps, states, writes, chunk) for chunk in _chunks(states, len(writes))]
    *own, biases, remainder = torch.cat([whole for whole, _ in followed], dim=1).unbind()
    left = torch.cat([left for _, left in followed]).norm() / last.norm().clamp_min(1e-300)
    return Decomposition(
        total=total,
        parts=torch.stack(own),
        biases=biases,
        remainder=remainder,
        weights=way_out.coefficients[:, 0] if way_out.views == (None,) and way_out.error < WEIGHED else None,
        sites=tuple(site.error for site in maps),
        end=way_out.error,
        state_error=float(left),
    )


def _ways_out(trace: Trace, model: nn.Module) -> list[tuple[View, ...]]:
    """The last state's vectors weighed; or each of them, and a norm of it (ResiDual)."""
    found: list[tuple[View, ...]] = [(None,)]
    for norm in _norms_outside(trace.trunk, model) if trace.states[-1].shape[-2] > 1 else ():
        view = frozen(norm, trace.states[-1].shape[-1])
        if view is not None:
            found.append((None, view))
    return found


def _norms_outside(trunk: Trunk, model: nn.Module) -> Iterator[nn.Module]:
    """Norms that stand in no block."""
    blocks = tuple(f"{sublayer.block}." for sublayer in trunk.sublayers if sublayer.block)
    for name, module in model.named_modules():
        if "norm" in type(module).__name__.lower() and not f"{name}.".startswith(blocks):
            yield module


def _chunks(states: Sequence[Tensor], depth: int) -> Iterator[slice]:
    """Tokens that fit memory together: every part of every state is held, as a history may be asked for."""
    a_token = 8 * (depth + 3) * sum(state.shape[1:].numel() for state in states)
    size = max(CHUNK_BYTES // a_token, 1)
    return (slice(start, start + size) for start in range(0, len(states[0]), size))


def _followed(
    steps: Sequence[Sequence[VectorOrigin]], states: Sequence[Tensor], writes: Sequence[Tensor], chunk: slice
) -> tuple[Tensor, Tensor]:
    """`(1 + L + 2, tokens, d_model)`: parts of what comes out, biases, remainder; and the last state's remainder."""
    first = states[0][chunk]
    parts = [first.new_zeros(len(writes) + 3, *first.shape)]
    parts[0][0] = first
    for site, rows in enumerate(steps):
        written = first.new_zeros(len(writes) + 3, len(first), 1 if site < len(writes) else 0, first.shape[-1])
        if site < len(writes):
            written[site + 1] = writes[site][chunk, None]
        seen = {reach: torch.cat([*parts[-reach:], written], dim=2) for reach in {row.reach for row in rows}}
        new = torch.stack([_row(row, seen[row.reach], chunk) for row in rows], dim=2)
        new[-1] += states[site + 1][chunk] - new.sum(0)
        parts.append(new)
    return parts[-1].squeeze(2), parts[-2][-1]


def _row(row: VectorOrigin, parts: Tensor, chunk: slice) -> Tensor:
    """One vector's parts: each is seen in each form and weighed; the shift is a bias."""
    new = torch.zeros_like(parts[:, :, 0])
    for view, coefficients in zip(row.views, row.coefficients[chunk].unbind(1), strict=True):
        mixed = torch.einsum("tv,ptvd->ptd", coefficients, parts)
        new += mixed if view is None else view.linear(mixed)
    if row.shift is not None:
        new[-2] += row.shift
    return new
