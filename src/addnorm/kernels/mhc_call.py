"""How the C++ kernel of a site of mHC is called."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, get_num_threads

from addnorm.kernels import native
from addnorm.kernels.gpu import choice

LEARNED = ("phi", "alpha", "bias", "gain", "shift")


BLOCK = 16  # tokens that the kernel works on together
MOST_STEPS = 8  # of mhc_vector.h
_ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p)  # a forward reads the first alone
_Steps = ctypes.c_void_p * MOST_STEPS


class Step(NamedTuple):
    """One write: the sublayer's output, `H_res` and `H_post`, none of them with a gradient of its own."""

    update: Tensor
    mixing: Tensor
    post: Tensor


class SiteStruct(ctypes.Structure):
    """`Site` of mhc_forward.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "n", "d", "iterations", "threads", "norm")),
        *((name, ctypes.c_double) for name in ("eps", "norm_eps")),
        ("streams", ctypes.c_void_p),
        ("steps", ctypes.c_int64),
        *((name, _Steps) for name in Step._fields),
        *((name, ctypes.c_void_p) for name in LEARNED),
        *((name, ctypes.c_void_p) for name in ("written", "read", "next_mixing", "next_post", "saved")),
    )


class GradientsStruct(ctypes.Structure):
    """`Gradients` of mhc_backward.h."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            *("last_update", "last_post"),
            *("next_state", "read", "next_post"),
            *("state", "update", "post"),
            *LEARNED,
        )
    )


def run(
    symbol: str, streams: Tensor, steps: Sequence[Step], site: dict[str, Any], gradients: dict[str, Any] | None = None
) -> None:
    """Call the kernel; tensors are handed over by their addresses. On a GPU, the Triton kernels are called instead.

    Args:
        symbol: "mhc_forward" or "mhc_backward".
        streams: a state.
        steps: the writes after it, up to the state that is meant.
        site: the rest of `Site`.
        gradients: `Gradients`, for backward.
    """
    if choice.takes(streams):
        from addnorm.kernels.gpu import mhc_launch

        mhc_launch.run(symbol, streams, steps, site, gradients)
        return
    n, d = streams.shape[-2:]
    update = steps[0].update if steps else (gradients or {}).get("last_update")  # one precision for all
    narrow = update is not None and update.dtype != streams.dtype
    call = native.function("mhc_site", f"{symbol}_narrow" if narrow else symbol, streams.dtype, _ARGUMENTS)
    sizes = {"tokens": streams.numel() // (n * d), "n": n, "d": d, "threads": get_num_threads(), "steps": len(steps)}
    struct = SiteStruct(**sizes, **_addressed(site | {"streams": streams}))
    if steps:
        writes = native.addresses(*[one for step in steps for one in step])
        struct.update, struct.mixing, struct.post = (_Steps(*writes[i :: len(Step._fields)]) for i in range(3))
    call(ctypes.byref(struct), None if gradients is None else ctypes.byref(GradientsStruct(**_addressed(gradients))))


def _addressed(fields: dict[str, Any]) -> dict[str, Any]:
    """Tensors by their addresses; numbers as they are."""
    tensors = {name: one for name, one in fields.items() if isinstance(one, Tensor)}
    return fields | dict(zip(tensors, native.addresses(*tensors.values()), strict=True))


def outcome_room(state: Tensor) -> dict[str, Tensor]:
    """Room for what a read makes: the read, the coefficients, and the numbers that backward needs."""
    *tokens, n, d = state.shape
    blocks = -(-state.numel() // (n * d * BLOCK))
    precision = torch.float64 if state.dtype == torch.float64 else torch.float32
    return {
        "read": state.new_empty((*tokens, d)),
        "next_mixing": state.new_empty((*tokens, n, n), dtype=precision),
        "next_post": state.new_empty((*tokens, n), dtype=precision),
        "saved": state.new_empty((blocks, n * n + 2 * n + 3, BLOCK), dtype=precision),
    }


def gradient_room(given: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Room for gradients."""
    return {
        name: None if one is None else torch.empty_like(one, memory_format=torch.contiguous_format)
        for name, one in given.items()
    }
