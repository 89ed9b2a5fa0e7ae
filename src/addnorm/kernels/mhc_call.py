"""How the C++ kernel of a site of mHC is called."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor, get_num_threads

from addnorm.kernels import native

LEARNED = ("phi", "alpha", "bias", "gain", "shift")


class SiteStruct(ctypes.Structure):
    """`Site` of mhc_forward.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "n", "d", "iterations", "threads", "norm")),
        *((name, ctypes.c_double) for name in ("eps", "norm_eps")),
        *((name, ctypes.c_void_p) for name in ("streams", "update", "mixing", "post")),
        *((name, ctypes.c_void_p) for name in LEARNED),
        *((name, ctypes.c_void_p) for name in ("written", "read", "next_mixing", "next_post", "saved")),
    )


class GradientsStruct(ctypes.Structure):
    """`Gradients` of mhc_backward.h."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("next_state", "read", "next_post", "state", "update", "post", *LEARNED)
    )


def run(symbol: str, site: dict[str, Any], gradients: dict[str, Any] | None = None) -> None:
    """Call the kernel; tensors are handed over by their addresses."""
    streams, update = site["streams"], site["update"]
    n, d = streams.shape[-2:]
    narrow = update is not None and update.dtype != streams.dtype
    call = native.function("mhc_site", f"{symbol}_narrow" if narrow else symbol, streams.dtype)
    assert call is not None
    sizes = {"tokens": streams.numel() // (n * d), "n": n, "d": d, "threads": get_num_threads()}
    # Named until the call returns: the kernel sees only the address of what was copied for it.
    kept = {key: _in_line(one) for key, one in site.items()}
    struct = SiteStruct(**sizes, **{key: _address(one) for key, one in kept.items()})
    if gradients is None:
        call(ctypes.byref(struct))
        return
    call(ctypes.byref(struct), ctypes.byref(GradientsStruct(**{key: _address(one) for key, one in gradients.items()})))


def _in_line(one: Any) -> Any:
    return one.contiguous() if isinstance(one, Tensor) else one


def _address(one: Any) -> Any:
    if not isinstance(one, Tensor):
        return one
    assert one.is_contiguous()
    return one.data_ptr()
