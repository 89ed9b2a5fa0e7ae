# Triton compiles these functions; Python does not run them.
# pyrefly: ignore-errors
"""Add and norm in Triton: a program holds whole rows in registers, so every number is read and written once.

Never run or timed on a GPU: checked in Triton's interpreter, and compiled for sm_90 where the bytes were counted.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _from_the_first(long, columns, inside):
    """Each row's numbers less its first: a row far from zero loses nothing, one of equal numbers is exactly zero."""
    first = tl.sum(tl.where((columns == 0)[None, :], long, 0.0), axis=1)
    return tl.where(inside, long - first[:, None], 0.0)


@triton.jit
def add_norm_forward(
    x, y, weight, bias, total, normed, mean, inverse, tokens, eps, alpha,
    HAS_UPDATE: tl.constexpr, HAS_BIAS: tl.constexpr, CENTRED: tl.constexpr,
    D: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The sum, its norm, and the two numbers of each row that backward needs.

    They are its mean, counted from its first number, and its inverse deviation. The norm is of the sum as it is
    stored. Minimum for each token: read `x` and `y`, write the sum and the norm.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    is_row, is_column = rows < tokens, columns < D
    inside = is_row[:, None] & is_column[None, :]
    at = rows.to(tl.int64)[:, None] * D + columns[None, :]
    long = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        long = alpha * long + tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
        stored = long.to(total.dtype.element_ty)
        tl.store(total + at, stored, mask=inside)
        long = stored.to(tl.float32)
    centre = tl.zeros([ROWS], tl.float32)
    if CENTRED:
        long = _from_the_first(long, columns, inside)
        centre = tl.sum(long, axis=1) / D
        long = tl.where(inside, long - centre[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(long * long, axis=1) / D + eps)
    outcome = long * scale[:, None] * tl.load(weight + columns, mask=is_column, other=0.0)[None, :]
    if HAS_BIAS:
        outcome += tl.load(bias + columns, mask=is_column, other=0.0)[None, :]
    tl.store(normed + at, outcome.to(normed.dtype.element_ty), mask=inside)
    tl.store(mean + rows, centre, mask=is_row)
    tl.store(inverse + rows, scale, mask=is_row)


@triton.jit
def add_norm_backward(
    total, of_norm, of_sum, weight, mean, inverse, found, partials, tokens,
    HAS_SUM: tl.constexpr, CENTRED: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """With `z` the normalised and `r` the inverse deviation: `ds' = r (g w - mean(g w) - z mean(g w z)) + ds`.

    A program takes every so many blocks of rows and writes its share of the gradients of weight and bias at the end:
    deterministic for a number of programs. Minimum for each token: read the sum and both gradients, write one.
    """
    columns = tl.arange(0, WIDTH)
    is_column = columns < D
    gain = tl.load(weight + columns, mask=is_column, other=0.0)[None, :]
    of_weight, of_bias = tl.zeros([ROWS, WIDTH], tl.float32), tl.zeros([ROWS, WIDTH], tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(tokens, ROWS), tl.num_programs(0)):
        rows = block * ROWS + tl.arange(0, ROWS)
        is_row = rows < tokens
        inside = is_row[:, None] & is_column[None, :]
        at = rows.to(tl.int64)[:, None] * D + columns[None, :]
        grad = tl.load(of_norm + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(inverse + rows, mask=is_row, other=0.0)[:, None]
        z = tl.load(total + at, mask=inside, other=0.0).to(tl.float32)
        if CENTRED:
            z = _from_the_first(z, columns, inside)
            z = tl.where(inside, z - tl.load(mean + rows, mask=is_row, other=0.0)[:, None], 0.0)
        z *= scale
        of_weight += grad * z
        of_bias += grad
        scaled = grad * gain
        outcome = scaled - z * (tl.sum(scaled * z, axis=1) / D)[:, None]
        if CENTRED:
            outcome -= (tl.sum(scaled, axis=1) / D)[:, None]
        outcome *= scale
        if HAS_SUM:
            outcome += tl.load(of_sum + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(found + at, outcome.to(found.dtype.element_ty), mask=inside)
    mine = partials + tl.program_id(0) * 2 * D + columns
    tl.store(mine, tl.sum(of_weight, axis=0), mask=is_column)
    tl.store(mine + D, tl.sum(of_bias, axis=0), mask=is_column)
