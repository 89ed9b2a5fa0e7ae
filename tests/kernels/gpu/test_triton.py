"""The Triton kernels: right in the interpreter, and as few bytes as counted here in the code for sm_90. Never timed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install 'addnorm[gpu]'")

from addnorm.kernels.gpu import add_norm_kernels, mhc_backward_kernels, mhc_kernels, mhc_launch  # noqa: E402
from addnorm.kernels.gpu.add_norm_launch import tile  # noqa: E402
from traffic_of_kernels import Traffic, compiled, traffic  # noqa: E402

pytestmark = pytest.mark.triton

N, D = 4, 512
K = N * N + 2 * N
K_PAD = 32
ROW = 2 * D  # bytes of a token's row in bfloat16
ROWS, CHUNK = mhc_launch.block(65536), 32
TURNS = D // CHUNK
STATES = {"x", "y", "total", "normed", "of_norm", "of_sum", "found"}
STATES |= {"written", "read", "state", "of_next", "of_read", "of_update"}
SIZES = {"N": N, "D": D}


def of(kernel: Any, warps: int = 4, scalars: tuple[str, ...] = (), **constants: Any) -> Traffic:
    """The traffic of a program that works on bfloat16 states."""
    types = {"tokens": "i32"} | dict.fromkeys(scalars, "fp32")
    return traffic(compiled(kernel, types, constants, warps, STATES).asm["ptx"], warps)


def test_the_kernels_equal_their_references_in_the_interpreter() -> None:
    cases = Path(__file__).with_name("interpreted_cases.py")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(cases)]
    told = subprocess.run(words, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert told.returncode == 0 and " passed" in told.stdout, told.stdout[-3000:] + told.stderr[-2000:]


def test_add_and_norm_moves_each_number_once() -> None:
    form = tile(D)
    found = of(
        *(add_norm_kernels.add_norm_forward, form.warps, ("eps", "alpha")),
        **dict(HAS_UPDATE=True, HAS_BIAS=True, CENTRED=True, D=D, ROWS=form.rows, WIDTH=form.width),
    )
    minimum = 4 * ROW * form.rows  # reads x and y, writes the sum and the norm
    assert found.vectors() == minimum + 2 * 4 * D  # weight and bias once a program, from cache
    assert found.singles() <= minimum / 32


def test_the_backward_of_add_and_norm_moves_each_number_once() -> None:
    form = tile(D)
    found = of(
        *(add_norm_kernels.add_norm_backward, form.warps),
        **dict(HAS_SUM=True, CENTRED=True, D=D, ROWS=form.rows, WIDTH=form.width),
    )
    minimum = 4 * ROW * form.rows  # reads the sum and two gradients, writes one; a turn is a block of tokens
    assert sum(found.turn) == minimum
    assert sum(found.once) == 3 * 4 * D  # the weight, and a program's share of the gradients of weight and bias
    assert found.singles_turn <= minimum / 8


def test_a_site_of_mhc_fetches_the_written_state_once_more() -> None:
    found = of(
        *(mhc_kernels.site_forward, 4, ("eps",)),
        **dict(HAS_WRITE=True, HAS_READ=True, ITERATIONS=20, ROWS=ROWS, CHUNK=CHUNK, N_PAD=N, K_PAD=K_PAD, **SIZES),
    )
    minimum = (2 * N + 2) * ROW * ROWS  # reads X and y, writes X' and the read
    phi = 4 * K_PAD * N * D  # from cache; its last 8 rows are masked out
    assert TURNS * sum(found.turn) == minimum + N * ROW * ROWS + phi
    coefficients = 4 * ROWS * (K_PAD + 2 * N * N)  # the projections; H_res written, its logits fetched
    assert sum(found.once) == coefficients
    assert found.singles() <= minimum / 16
    assert found.singles_turn == 0


def test_the_backward_of_a_site_of_mhc_fetches_state_and_gradients_twice() -> None:
    sums = of(mhc_backward_kernels.site_sums, ROWS=2, CHUNK=D, **SIZES)
    assert sums.vectors() == (2 * N + 1) * ROW * 2  # X', G and g
    found = of(
        mhc_backward_kernels.site_backward,
        **dict(HAS_SITE=True, HAS_WRITE=True, ROWS=ROWS, CHUNK=CHUNK, K_PAD=K_PAD, **SIZES),
    )
    minimum = (3 * N + 3) * ROW * ROWS  # reads X', G, g and y, writes dX' and dy
    assert TURNS * sum(found.turn) == minimum + 4 * K_PAD * N * D
    assert found.vectors() <= minimum / 16 and found.singles() <= minimum / 16


def test_the_gradient_of_phi_fetches_the_state_once() -> None:
    found = of(
        mhc_backward_kernels.phi_backward,
        **dict(ROWS=mhc_launch.TOKENS, CHUNK=mhc_launch.FEATURES, K_PAD=K_PAD, **SIZES),
    )
    assert found.turn == (
        2 * mhc_launch.TOKENS * mhc_launch.FEATURES + 4 * K_PAD * mhc_launch.TOKENS,
        0,
    )  # a block of X', and of dp


def test_the_coefficients_of_mhc_cost_less_than_a_row_of_the_state() -> None:
    found = of(
        mhc_backward_kernels.coefficients_backward,
        **dict(HAS_POST=True, ITERATIONS=20, ROWS=32, N_PAD=N, **SIZES),
    )
    turns = 19 * 2  # two loops over the iterations but the first, forth and back
    assert found.vectors(turns) + found.singles(turns // 2) <= 32 * 3 * ROW
