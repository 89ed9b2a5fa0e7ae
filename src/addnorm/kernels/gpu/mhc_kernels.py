# Triton compiles these functions; Python does not run them.
# pyrefly: ignore-errors
"""A site of mHC in Triton: the write of the site before, the coefficients, the read; and their gradients.

Never run or timed on a GPU: checked in Triton's interpreter, and compiled for sm_90 where the bytes were counted.
Numbers of a token that are not of its width lie in planes, one after the other, each with all tokens: what a program
reads of a plane is then in one piece. Products with `phi` are float32 throughout, without tensor cores' rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _of_tokens(start, rows, is_row, STRIDE: tl.constexpr, COUNT: tl.constexpr):
    """`COUNT` numbers of each token, which lie together, as so many vectors."""
    found = ()
    for k in tl.static_range(COUNT):
        found = found + (tl.load(start + rows * STRIDE + k, mask=is_row, other=0.0),)
    return found


@triton.jit
def _planes(start, rows, is_row, tokens, COUNT: tl.constexpr):
    """The same of numbers that lie in planes."""
    found = ()
    for k in tl.static_range(COUNT):
        found = found + (tl.load(start + k * tokens + rows, mask=is_row, other=0.0),)
    return found


@triton.jit
def _streams(start, at, inside, N: tl.constexpr, D: tl.constexpr):
    """A chunk of each stream in float32."""
    found = ()
    for j in tl.static_range(N):
        found = found + (tl.load(start + at + j * D, mask=inside, other=0.0).to(tl.float32),)
    return found


@triton.jit
def _sinkhorn_start(logits, valid):
    """`T_c(exp(logits))` without overflow; what pads a matrix is 0."""
    logits = tl.where(valid, logits, -1e30)
    matrix = tl.where(valid, tl.exp(logits - tl.max(logits, axis=1, keep_dims=True)), 0.0)
    return tl.where(valid, tl.maximum(matrix / _sums(matrix, 1), 1.1754944e-38), 0.0)


@triton.jit
def _sums(matrix, AXIS: tl.constexpr):
    """Of columns (1) or rows (2); 1 where all is padding."""
    sums = tl.sum(matrix, axis=AXIS, keep_dims=True)
    return tl.where(sums > 0, sums, 1.0)


@triton.jit
def site_forward(
    x, y, mixing, post, written, read, next_mixing, next_post, saved, phi, alpha, bias, tokens, eps,
    HAS_WRITE: tl.constexpr, HAS_READ: tl.constexpr, ITERATIONS: tl.constexpr, N: tl.constexpr, D: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, N_PAD: tl.constexpr, K_PAD: tl.constexpr,
):  # fmt: skip
    """`X' = H_res X + H_post y`; the coefficients of `X'`; `H_pre' X'`.

    First pass, chunk by chunk: write, store, project, add up squares. Second pass: the read, for which `X'` is fetched
    again, by the program that has just written it. Minimum for each token: read `X` and `y`, write `X'` and the read.
    """
    K: tl.constexpr = N * N + 2 * N
    rows, ks = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, K_PAD)
    is_row, is_k = rows < tokens, ks < K
    long_rows = rows.to(tl.int64)
    if HAS_WRITE:
        h = _of_tokens(mixing, long_rows, is_row, N * N, N * N)
        gain = _of_tokens(post, long_rows, is_row, N, N)
    projected, squares = tl.zeros([ROWS, K_PAD], tl.float32), tl.zeros([ROWS], tl.float32)
    for first in range(0, D, CHUNK):
        columns = first + tl.arange(0, CHUNK)
        inside = is_row[:, None] & (columns < D)[None, :]
        at = long_rows[:, None] * (N * D) + columns[None, :]
        streams = _streams(x, at, inside, N, D)
        if HAS_WRITE:
            update = tl.load(y + long_rows[:, None] * D + columns[None, :], mask=inside, other=0.0).to(tl.float32)
        for i in tl.static_range(N):
            state = streams[i]
            if HAS_WRITE:
                state = gain[i][:, None] * update
                for j in tl.static_range(N):
                    state += h[i * N + j][:, None] * streams[j]
                stored = state.to(written.dtype.element_ty)
                tl.store(written + at + i * D, stored, mask=inside)
                state = stored.to(tl.float32)
            if HAS_READ:
                squares += tl.sum(state * state, axis=1)
                inside_phi = (columns < D)[:, None] & is_k[None, :]
                rows_of_phi = tl.load(
                    phi + ks[None, :] * (N * D) + i * D + columns[:, None], mask=inside_phi, other=0.0
                )
                projected = tl.dot(state, rows_of_phi, projected, input_precision="ieee")
    if HAS_READ:
        inverse = 1.0 / tl.sqrt(squares / (N * D) + eps)
        planes = saved + ks[None, :] * tokens + rows[:, None]
        tl.store(planes, projected * inverse[:, None], mask=is_row[:, None] & is_k[None, :])
        tl.store(saved + K * tokens + rows, inverse, mask=is_row)
        tl.debug_barrier()  # other threads of the program read what was stored here and above
        _mixing_of(saved, alpha, bias, next_mixing, tokens, ITERATIONS, N, ROWS, N_PAD)
        before = _planes(saved, rows, is_row, tokens, 2 * N)
        for i in tl.static_range(N):
            opened = 2.0 * tl.sigmoid(tl.load(alpha + 1) * before[N + i] + tl.load(bias + N + i))
            tl.store(next_post + long_rows * N + i, opened, mask=is_row)
        weights = ()
        for j in tl.static_range(N):
            weights = weights + (tl.sigmoid(tl.load(alpha) * before[j] + tl.load(bias + j)),)
        for first in range(0, D, CHUNK):
            columns = first + tl.arange(0, CHUNK)
            inside = is_row[:, None] & (columns < D)[None, :]
            at = long_rows[:, None] * (N * D) + columns[None, :]
            outcome = tl.zeros([ROWS, CHUNK], tl.float32)
            for j in tl.static_range(N):
                state = tl.load((written if HAS_WRITE else x) + at + j * D, mask=inside, other=0.0)
                outcome += weights[j][:, None] * state.to(tl.float32)
            at = long_rows[:, None] * D + columns[None, :]
            tl.store(read + at, outcome.to(read.dtype.element_ty), mask=inside)


@triton.jit
def _mixing_of(
    saved, alpha, bias, next_mixing, tokens,
    ITERATIONS: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, N_PAD: tl.constexpr,
):  # fmt: skip
    """`H_res` of a program's tokens from their projections."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None, None]
    i, j = tl.arange(0, N_PAD)[None, :, None], tl.arange(0, N_PAD)[None, None, :]
    entry, valid = i * N + j, (row < tokens) & (i < N) & (j < N)
    in_bias = (i < N) & (j < N)
    logits = tl.load(saved + (2 * N + entry) * tokens + row, mask=valid, other=0.0)
    logits = tl.load(alpha + 2) * logits + tl.load(bias + 2 * N + entry, mask=in_bias, other=0.0)
    matrix = _sinkhorn_start(logits, valid)
    matrix /= _sums(matrix, 2)
    for _ in range(1, ITERATIONS):
        matrix /= _sums(matrix, 1)
        matrix /= _sums(matrix, 2)
    tl.store(next_mixing + row.to(tl.int64) * (N * N) + entry, matrix, mask=valid)
