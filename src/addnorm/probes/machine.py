"""How fast this machine computes: matrix products, copies, threads; a few seconds of measuring.

A rate is the best of several repetitions, because whatever disturbs a measurement makes it slower.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

TOKENS = 512
WIDTHS = (64, 1024)
SMALL_ELEMENTS = 2**18  # 1 MB: an activation of a small model
LARGE_ELEMENTS = 2**24  # 64 MB: more than caches hold
REPEATS = 4
REPEAT_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Product:
    """The rate of one matrix product: 512 tokens from `d_model` to `4 d_model` features, 2 FLOPs a multiply-add."""

    d_model: int
    precision: str
    linear_gflops: float
    """Through `F.linear`, as models compute: the BLAS that torch was built with, or oneDNN where torch prefers it."""
    onednn_gflops: float | None
    """Through oneDNN with weights laid out for it; None where torch was built without, or the processor can't do it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured."""

    cores: float
    """Cores this process may use: affinity, and a container's quota where there is one."""
    threads: int
    """Threads torch computes with."""
    load: float | None
    """Programs that wanted a core in the minute before measuring."""
    memory_bytes: int | None
    """Memory that is free for this process."""
    instructions: str
    """Vector instructions torch uses."""
    products: tuple[Product, ...]
    reused_copy_gb_per_s: float
    """Bytes read and written a second in copying 64 MB into a tensor that exists."""
    fresh_copy_gb_per_s: float
    """The same into a new tensor each time."""
    large_thread_speedup: float
    """A large matrix product with all threads against one thread."""
    small_thread_speedup: float
    """Copying 1 MB with all threads against one thread."""
    operation_us: float
    """What the smallest operation takes: the cost of calling, not of computing."""

    def product(self, d_model: int, precision: str) -> Product:
        """One of the measured products."""
        return next(item for item in self.products if (item.d_model, item.precision) == (d_model, precision))


def load_average() -> float | None:
    """Processes that ran or waited for a core in the last minute, on average; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


@torch.no_grad()
def measure() -> Machine:
    """Measure the machine with as many threads as torch has now."""
    load = load_average()
    one = torch.ones(1)
    return Machine(
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        load=load,
        memory_bytes=free_memory_bytes(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        products=tuple(_product(d, precision) for d in WIDTHS for precision in (torch.float32, torch.bfloat16)),
        reused_copy_gb_per_s=_copy_rate(LARGE_ELEMENTS, fresh=False),
        fresh_copy_gb_per_s=_copy_rate(LARGE_ELEMENTS, fresh=True),
        large_thread_speedup=_thread_speedup(lambda: _linear_rate(WIDTHS[-1], torch.float32)),
        small_thread_speedup=_thread_speedup(lambda: _copy_rate(SMALL_ELEMENTS, fresh=False)),
        operation_us=1e6 * seconds(lambda: one.add(one)),
    )


def seconds(function: Callable[[], object]) -> float:
    """The time of one call, in the best of `REPEATS` rounds of about `REPEAT_S` each."""
    began = time.perf_counter()
    function()
    calls = max(1, int(REPEAT_S / max(time.perf_counter() - began, 1e-9)))
    best = math.inf
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - began) / calls)
    return best


def usable_cores() -> float:
    """Cores this process may use; a container's quota can be a fraction of a core."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _cgroup("cpu.max", "max 100000").split()[:2]
    return allowed if quota == "max" else min(allowed, int(quota) / int(period))


def free_memory_bytes() -> int | None:
    """Memory that can still be had, as the system says, or a container's limit where that is lower."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    limit = _cgroup("memory.max", "max").strip()
    if free is None or limit == "max":
        return free
    return min(free, max(0, int(limit) - int(_cgroup("memory.current", "0"))))


def _cgroup(file: str, otherwise: str) -> str:
    try:
        return Path("/sys/fs/cgroup", file).read_text()
    except OSError:
        return otherwise


def _product(d_model: int, precision: torch.dtype) -> Product:
    return Product(
        d_model=d_model,
        precision=str(precision).removeprefix("torch."),
        linear_gflops=_linear_rate(d_model, precision),
        onednn_gflops=_onednn_rate(d_model, precision) if torch.backends.mkldnn.is_available() else None,
    )


def _linear_rate(d_model: int, precision: torch.dtype) -> float:
    x = torch.randn(TOKENS, d_model).to(precision)
    weight = torch.randn(4 * d_model, d_model).to(precision)
    return _gflop(d_model) / seconds(lambda: F.linear(x, weight))


def _onednn_rate(d_model: int, precision: torch.dtype) -> float | None:
    """None where the processor lacks what oneDNN asks for this precision, as one without AVX-512 does for bfloat16."""
    x = torch.randn(TOKENS, d_model).to(precision).to_mkldnn()
    weight = torch.randn(4 * d_model, d_model).to(precision).to_mkldnn()
    try:
        return _gflop(d_model) / seconds(lambda: F.linear(x, weight))
    except RuntimeError:
        return None


def _gflop(d_model: int) -> float:
    return 2 * TOKENS * d_model * 4 * d_model / 1e9


def _copy_rate(elements: int, *, fresh: bool) -> float:
    source = torch.ones(elements)
    target = torch.empty_like(source)
    call = source.clone if fresh else (lambda: target.copy_(source))
    return 2 * source.nbytes / 1e9 / seconds(call)


def _thread_speedup(rate: Callable[[], float]) -> float:
    with _threads(1):
        alone = rate()
    return rate() / alone


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
