"""Keeping the memory that a training step frees for the next step."""

from __future__ import annotations

import ctypes

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt
KEPT, LARGE = 1 << 30, 1 << 26  # bytes: free memory that is kept; a tensor from which on it is not


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; whether the C library can be asked to.

    By default glibc gives large tensors back to the system, which clears every page anew when they are wanted again:
    4 % of a training step's processor time at width 512 (LOG.md). Up to 1 GiB of free memory is
    kept, and no tensor above 64 MiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_TRIM, KEPT)) and bool(mallopt(_MMAP, LARGE))
