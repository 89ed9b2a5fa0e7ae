"""What each write does to the state, recovered from a trace alone.

    S' = A S + b w^T,    S: (n, d_model) before, S': (n', d_model) after, w: what the sublayer wrote; A, b of each token

A and b solve a least squares problem of n + 1 unknowns over the d_model features, in float64. n' > n where a depth
attention's history grows. A stream that a norm follows (Post-LN) is fitted with the norm's scale in A and b; where the
state before does not explain the state after (AltUp, DenseFormer), earlier states are tried too, the fewest first. What
is left over is reported and nowhere hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from addnorm.diagnosis.frozen_norm import FrozenNorm, norms_named
from addnorm.diagnosis.trace import Trace

ENOUGH = 8  # units of the last place of the model's own arithmetic: no other form is tried below
BETTER = 2.0  # times less must be left over for a form with more unknowns

View = FrozenNorm | None  # None: the vectors as they are


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorOrigin:
    """How one vector of the state after came to be: `sum_v view_v(sum_j a_vj x_j) + shift`.

    Args:
        views: in what form the vectors enter.
        coefficients: `(tokens, len(views), vectors)`; the write is the last vector.
        reach: how many states the vectors are of, the last ones; 1 = the last.
        shift: of the norm.
        error: what is left over, of the size of the vector.
        determined: whether no other coefficients do it as well, at most tokens.
    """

    views: tuple[View, ...]
    coefficients: Tensor
    reach: int
    shift: Tensor | None
    error: float
    determined: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class WriteMap:
    """One site's rows."""

    rows: tuple[VectorOrigin, ...]

    @property
    def error(self) -> float:
        """The largest of the rows'."""
        return max(row.error for row in self.rows)

    @property
    def gains(self) -> Tensor:
        """b: `(tokens, n')`, how strongly each vector got what was written."""
        return torch.stack([row.coefficients.sum(1)[:, -1] for row in self.rows], dim=1)

    @property
    def mixing(self) -> Tensor | None:
        """A: `(tokens, n', n)`; None where it is not the last state that was kept."""
        if any(row.reach > 1 for row in self.rows):
            return None
        return torch.stack([row.coefficients.sum(1)[:, :-1] for row in self.rows], dim=1)

    @property
    def determined(self) -> bool:
        """Whether A and b are the only ones; equal streams are mixed by any."""
        return all(row.determined for row in self.rows)


@torch.no_grad()
def write_maps(trace: Trace, model: nn.Module) -> list[WriteMap]:
    """Of each sublayer, from the entrance on."""
    states = [flat(state, 2) for state in trace.states]
    eps = torch.finfo(trace.states[0].dtype).eps
    found: list[WriteMap] = []
    for i, sublayer in enumerate(trace.trunk.sublayers):
        norms = norms_named(model, sublayer.norm_on_trunk, states[i])
        plain: list[View] = [None] if not norms or states[i + 1].shape[1] > 1 else []
        views = [(view,) for view in [*plain, *norms]]
        write = flat(trace.writes[i], 1)[:, None]
        found.append(WriteMap(rows=fit(states[i + 1], states[: i + 1], write, views, eps)))
    return found


def flat(x: Tensor, trailing: int) -> Tensor:
    """All tokens in one dimension, in float64."""
    return x.detach().reshape(-1, *x.shape[x.dim() - trailing :]).double()


def fit(
    after: Tensor, before: Sequence[Tensor], write: Tensor, views: Sequence[tuple[View, ...]], eps: float
) -> tuple[VectorOrigin, ...]:
    """Each vector of `after` from those before it and what was written, in the plainest form that explains it.

    Args:
        after: `(tokens, n', d_model)`.
        before: `(tokens, n, d_model)` of each depth so far.
        write: `(tokens, 1, d_model)`; `(tokens, 0, d_model)` where nothing is written.
        views: forms to try, in this order.
        eps: of the arithmetic that `after` was computed in.
    """
    best: list[VectorOrigin] | None = None
    for vectors, reach in _sources(before, write):
        for form in views:
            rows = _solved(after, vectors, form, eps, reach)
            pairs = zip(best or rows, rows, strict=True)
            best = [new if new.error * BETTER < old.error else old for old, new in pairs]
            if max(row.error for row in best) <= ENOUGH * eps:
                return tuple(best)
    assert best is not None
    return tuple(best)


def _sources(before: Sequence[Tensor], write: Tensor) -> Iterator[tuple[Tensor, int]]:
    """The last state, then more; not where as many vectors as features could explain anything."""
    for reach in sorted({1, 2, 3, 4, 6, 8, 12, 16, len(before)}):
        if reach <= len(before):
            vectors = torch.cat([*before[len(before) - reach :], write], dim=1)
            if reach == 1 or 2 * vectors.shape[1] <= vectors.shape[2]:
                yield vectors, reach


def _solved(after: Tensor, vectors: Tensor, views: tuple[View, ...], eps: float, reach: int) -> list[VectorOrigin]:
    seen = torch.cat([vectors if view is None else view.linear(vectors) for view in views], dim=1)
    shifts = [view.shift for view in views if view is not None]
    target = after - shifts[0] if shifts else after
    coefficients, determined = solve(seen, target, eps)
    left = (coefficients @ seen - target).norm(dim=-1)
    size = after.norm(dim=-1)
    # One number for all tokens: a padded token may be of any size, and of zeros nothing is left over.
    errors = left.norm(dim=0) / size.norm(dim=0).clamp_min(1e-300)
    return [
        VectorOrigin(
            views=views,
            coefficients=coefficients[:, k].unflatten(1, (len(views), -1)),
            reach=reach,
            shift=shifts[0] if shifts else None,
            error=float(errors[k]),
            determined=determined,
        )
        for k in range(after.shape[1])
    ]


def solve(sources: Tensor, target: Tensor, eps: float) -> tuple[Tensor, bool]:
    """The smallest C with `C sources = target` by least squares, and whether there is no other.

    Args:
        sources: `(tokens, m, d_model)`.
        target: `(tokens, k, d_model)`.
        eps: relative error of the numbers; directions below it are noise.
    """
    size = sources.norm(dim=-1, keepdim=True)
    unit = sources / size.clamp_min(1e-300)
    left, values, right = torch.linalg.svd(unit, full_matrices=False)
    kept = values > 2 * eps * values[:, :1]
    inverse = torch.where(kept, 1 / values.clamp_min(1e-300), torch.zeros_like(values))
    found = (target @ right.mT * inverse[:, None]) @ left.mT
    whole = kept.sum(-1) == (size.squeeze(-1) > 0).sum(-1)  # a vector of zeros needs no coefficient
    return found / size.clamp_min(1e-300).mT, bool(whole.double().mean() > 0.5)
