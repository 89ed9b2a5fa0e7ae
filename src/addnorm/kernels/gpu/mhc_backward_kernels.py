# Triton compiles these functions; Python does not run them.
# pyrefly: ignore-errors
"""The gradients of a site of mHC in Triton, in four kernels: sums over the width, coefficients, state and `phi`.

Never run or timed on a GPU: checked in Triton's interpreter, and compiled for sm_90 where the bytes were counted.
With `G` the gradient of the next written state `H_res' X' + H_post' y'` and `g` that of the read `H_pre' X'`:

    dH_res' = G X'^T;  dH_pre' = g X'^T;  dX' = H_res'^T G + H_pre'^T g + r phi^T dp - X' r^2 mean(dp p)
    dy = H_post dX';  dH_post = dX' y
"""

from __future__ import annotations

import triton
import triton.language as tl

from addnorm.kernels.gpu.mhc_kernels import _of_tokens, _planes, _sinkhorn_start, _streams, _sums


@triton.jit
def site_sums(
    state, of_next, of_read, sums, tokens,
    N: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Planes of `dH_pre` (n) and `dH_res` (n^2). Minimum for each token: read `X'`, `G` and `g`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = rows < tokens
    found = ()
    for _ in tl.static_range(N * N + N):
        found = found + (tl.zeros([ROWS], tl.float32),)
    for first in range(0, D, CHUNK):
        columns = first + tl.arange(0, CHUNK)
        inside = is_row[:, None] & (columns < D)[None, :]
        at = rows.to(tl.int64)[:, None] * (N * D) + columns[None, :]
        streams = _streams(state, at, inside, N, D)
        at_read = rows.to(tl.int64)[:, None] * D + columns[None, :]
        grads = (tl.load(of_read + at_read, mask=inside, other=0.0).to(tl.float32),)
        grads = grads + _streams(of_next, at, inside, N, D)
        after = ()
        for i in tl.static_range(N + 1):
            for j in tl.static_range(N):
                after = after + (found[i * N + j] + tl.sum(grads[i] * streams[j], axis=1),)
        found = after
    for k in tl.static_range(N * N + N):
        tl.store(sums + k * tokens + rows, found[k], mask=is_row)


@triton.jit
def _divided(matrix, planes, valid, AXIS: tl.constexpr):
    """The matrix normalised, with what it was divided by kept in `planes`."""
    sums = _sums(matrix, AXIS)
    tl.store(planes, sums, mask=valid)
    return matrix / sums


@triton.jit
def _undone(grad, matrix, AXIS: tl.constexpr):
    """A normalisation's gradient: with `g = dL/dlog M` it is `g - M sum(g)`."""
    return grad - matrix * tl.sum(grad, axis=AXIS, keep_dims=True)


@triton.jit
def coefficients_backward(
    saved, sums, of_post, alpha, bias, divided, of_logits, along, tokens,
    HAS_POST: tl.constexpr, ITERATIONS: tl.constexpr, N: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
    N_PAD: tl.constexpr,
):  # fmt: skip
    """From the gradients of the coefficients to those of the logits, and the coefficients in place of the former.

    `along` is `r^2 mean(dp p)`. Sinkhorn is run again and its sums, `2 n` an
    iteration, are kept in `divided`: kept in registers, they took the compiler 37 s and more.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = rows < tokens
    a_pre, a_post, a_res = tl.load(alpha), tl.load(alpha + 1), tl.load(alpha + 2)
    inner, gates = tl.zeros([ROWS], tl.float32), ()
    for j in tl.static_range(N):
        p = tl.load(saved + j * tokens + rows, mask=is_row, other=0.0)
        gate = tl.sigmoid(a_pre * p + tl.load(bias + j))
        grad = tl.load(sums + j * tokens + rows, mask=is_row, other=0.0) * gate * (1.0 - gate)
        gates = gates + (gate,)
        tl.store(of_logits + j * tokens + rows, grad, mask=is_row)
        inner += a_pre * grad * p
        p = tl.load(saved + (N + j) * tokens + rows, mask=is_row, other=0.0)
        grad = tl.zeros([ROWS], tl.float32)
        if HAS_POST:
            gate = tl.sigmoid(a_post * p + tl.load(bias + N + j))
            grad = tl.load(of_post + rows * N + j, mask=is_row, other=0.0) * 2.0 * gate * (1.0 - gate)
        tl.store(of_logits + (N + j) * tokens + rows, grad, mask=is_row)
        inner += a_post * grad * p
    row = rows[:, None, None]
    i, j = tl.arange(0, N_PAD)[None, :, None], tl.arange(0, N_PAD)[None, None, :]
    entry, in_token = i * N + j, (i < N) & (j < N)
    valid = (row < tokens) & in_token
    p = tl.load(saved + (2 * N + entry) * tokens + row, mask=valid, other=0.0)
    matrix = _sinkhorn_start(a_res * p + tl.load(bias + 2 * N + entry, mask=in_token, other=0.0), valid)
    # The sums of columns lie in even groups of N planes, those of rows in odd ones.
    of_columns, of_rows = divided + j * tokens + row, divided + (N + i) * tokens + row
    is_column, is_line = (row < tokens) & (j < N), (row < tokens) & (i < N)
    matrix = _divided(matrix, of_rows, is_line, 2)
    for turn in range(1, ITERATIONS):
        matrix = _divided(matrix, of_columns + turn * (2 * N) * tokens, is_column, 1)
        matrix = _divided(matrix, of_rows + turn * (2 * N) * tokens, is_line, 2)
    place = sums + (N + entry) * tokens + row
    grad = tl.load(place, mask=valid, other=0.0) * matrix
    tl.debug_barrier()  # other threads of the program have stored sums, and may read what is written over here
    tl.store(place, matrix, mask=valid)
    for k in tl.static_range(N):
        tl.store(sums + k * tokens + rows, gates[k], mask=is_row)
    for back in range(1, ITERATIONS):
        turn = ITERATIONS - back
        grad = _undone(grad, matrix, 2)
        matrix *= tl.load(of_rows + turn * (2 * N) * tokens, mask=is_line, other=0.0)
        grad = _undone(grad, matrix, 1)
        matrix *= tl.load(of_columns + turn * (2 * N) * tokens, mask=is_column, other=0.0)
    grad = _undone(grad, matrix, 2)
    matrix *= tl.load(of_rows, mask=is_line, other=0.0)
    grad = _undone(grad, matrix, 1)
    tl.store(of_logits + (2 * N + entry) * tokens + row, grad, mask=valid)
    inner += tl.sum(tl.sum(a_res * grad * p, axis=2), axis=1)
    inverse = tl.load(saved + (N * N + 2 * N) * tokens + rows, mask=is_row, other=0.0)
    tl.store(along + rows, inner * inverse * inverse / (N * D), mask=is_row)


@triton.jit
def site_backward(
    state, of_next, of_read, weights, of_logits, inverses, along, phi, alpha, y, post,
    found, of_update, of_post, tokens,
    HAS_SITE: tl.constexpr, HAS_WRITE: tl.constexpr, N: tl.constexpr, D: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, K_PAD: tl.constexpr,
):  # fmt: skip
    """`dX'`, `dy` and `dH_post`; without a site `dX'` is given, and is not written.

    Minimum for each token: read `X'`, `G`, `g` and `y`, write `dX'` and `dy`.
    """
    K: tl.constexpr = N * N + 2 * N
    rows, ks = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, K_PAD)
    is_row, long_rows = rows < tokens, rows.to(tl.int64)
    if HAS_SITE:
        weight = _planes(weights, rows, is_row, tokens, N * N + N)
        subtract = tl.load(along + rows, mask=is_row, other=0.0)
        inverse = tl.load(inverses + rows, mask=is_row, other=0.0)
        inside_q = is_row[:, None] & (ks < K)[None, :]
        q = tl.load(of_logits + ks[None, :] * tokens + rows[:, None], mask=inside_q, other=0.0)
        factor = tl.load(alpha + tl.minimum(ks // N, 2))
        q = q * inverse[:, None] * factor[None, :]
    sums = ()
    if HAS_WRITE:
        gain = _of_tokens(post, long_rows, is_row, N, N)
    for _ in tl.static_range(N):
        sums = sums + (tl.zeros([ROWS], tl.float32),)
    for first in range(0, D, CHUNK):
        columns = first + tl.arange(0, CHUNK)
        inside = is_row[:, None] & (columns < D)[None, :]
        at = long_rows[:, None] * (N * D) + columns[None, :]
        at_one = long_rows[:, None] * D + columns[None, :]
        grads = _streams(of_next, at, inside, N, D)
        if HAS_SITE:
            grad_read = tl.load(of_read + at_one, mask=inside, other=0.0).to(tl.float32)
            tl.debug_barrier()  # `found` may be the memory of `of_next`: all of the chunk is read before any is written
        if HAS_WRITE:
            update = tl.load(y + at_one, mask=inside, other=0.0).to(tl.float32)
            outcome = tl.zeros([ROWS, CHUNK], tl.float32)
        after = ()
        for j in tl.static_range(N):
            grad = grads[j]
            if HAS_SITE:
                stream = tl.load(state + at + j * D, mask=inside, other=0.0).to(tl.float32)
                grad = weight[j][:, None] * grad_read - subtract[:, None] * stream
                for i in tl.static_range(N):
                    grad += weight[N + i * N + j][:, None] * grads[i]
                inside_phi = (ks < K)[:, None] & (columns < D)[None, :]
                part = tl.load(phi + ks[:, None] * (N * D) + j * D + columns[None, :], mask=inside_phi, other=0.0)
                grad = tl.dot(q, part, grad, input_precision="ieee")
                tl.store(found + at + j * D, grad.to(found.dtype.element_ty), mask=inside)
            if HAS_WRITE:
                outcome += gain[j][:, None] * grad
                after = after + (sums[j] + tl.sum(grad * update, axis=1),)
        if HAS_WRITE:
            sums = after
            tl.store(of_update + at_one, outcome.to(of_update.dtype.element_ty), mask=inside)
    if HAS_WRITE:
        for j in tl.static_range(N):
            tl.store(of_post + long_rows * N + j, sums[j], mask=is_row)


@triton.jit
def phi_backward(
    state, of_logits, inverses, alpha, partials, tokens,
    N: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr, K_PAD: tl.constexpr,
):  # fmt: skip
    """A program's share of `dphi = (r dp) X'^T`: some features, every so many blocks of tokens."""
    K: tl.constexpr = N * N + 2 * N
    features, ks = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK), tl.arange(0, K_PAD)
    is_feature, is_k = features < N * D, ks < K
    factor = tl.load(alpha + tl.minimum(ks // N, 2))
    share = tl.zeros([K_PAD, CHUNK], tl.float32)
    for block in range(tl.program_id(1), tl.cdiv(tokens, ROWS), tl.num_programs(1)):
        rows = block * ROWS + tl.arange(0, ROWS)
        is_row = rows < tokens
        q = tl.load(of_logits + ks[:, None] * tokens + rows[None, :], mask=is_k[:, None] & is_row[None, :], other=0.0)
        q *= factor[:, None] * tl.load(inverses + rows, mask=is_row, other=0.0)[None, :]
        at = rows.to(tl.int64)[:, None] * (N * D) + features[None, :]
        streams = tl.load(state + at, mask=is_row[:, None] & is_feature[None, :], other=0.0).to(tl.float32)
        share = tl.dot(q, streams, share, input_precision="ieee")
    at = (tl.program_id(1) * K + ks)[:, None] * (N * D) + features[None, :]
    tl.store(partials + at, share, mask=is_k[:, None] & is_feature[None, :])
