"""What is slow about a machine and what to do, in sentences, from what `addnorm.probes.machine` measured."""

from __future__ import annotations

from collections.abc import Iterator

from addnorm.probes.machine import WIDTHS, Machine

SMALL, LARGE = WIDTHS
# Measured on a busy machine the same rate varies by a third; what is said here must be more than that.
NOTABLE = 1.4
LITTLE_MEMORY = 2e9


def advice(machine: Machine) -> list[str]:
    """Sentences with the figures they rest on; empty where nothing is slow."""
    return [*_threads(machine), *_precision(machine), *_routes(machine), *_memory(machine), *_size(machine)]


def _threads(machine: Machine) -> Iterator[str]:
    threads = machine.threads
    cores = f"{machine.cores:g} core{'s' * (machine.cores != 1)}"
    fitting = max(1, int(machine.cores))
    if machine.load is not None and machine.load > 0.5 * machine.cores:
        yield (
            f"Other programs are computing (load {machine.load:.1f} on {cores}): the figures here and every tokens/s "
            "are too low while they do; wait for them, or stop them."
        )
    if threads > fitting:
        yield f"torch has {threads} threads on {cores}, so they wait for each other; set OMP_NUM_THREADS={fitting}."
    elif threads < fitting:
        yield f"torch has {threads} of {cores}; set OMP_NUM_THREADS={fitting} for one large model."
    if threads > 1 and machine.large_thread_speedup < 1 + 0.25 * (threads - 1):
        yield (
            f"{threads} threads multiply large matrices only {machine.large_thread_speedup:.1f} times as fast as one; "
            "the cores are busy, shared, or halves of one core."
        )
    if threads > 1 and machine.small_thread_speedup < 1 / NOTABLE:
        yield (
            f"Small operations (1 MB) are {1 / machine.small_thread_speedup:.1f} times slower with {threads} threads "
            "than with one; for small models set OMP_NUM_THREADS=1 (`addnorm compare` trains one run a core so)."
        )


def _precision(machine: Machine) -> Iterator[str]:
    single, half = (machine.product(LARGE, precision).linear_gflops for precision in ("float32", "bfloat16"))
    rates = f"({half:.0f} against {single:.0f} GFLOP/s)"
    if half * NOTABLE < single:
        yield (
            f"bfloat16 is {single / half:.1f} times slower than float32 here {rates}: the processor has no units for "
            "it; addnorm's own layers multiply bfloat16 in float32 then, yet float32 alone is faster still."
        )
    elif half > NOTABLE * single:
        yield f"bfloat16 is {half / single:.1f} times as fast as float32 {rates}; try --precision bfloat16."
    if machine.instructions in ("DEFAULT", "default"):
        yield "torch uses no vector instructions here: the processor, or the virtual machine, offers no AVX2."


def _routes(machine: Machine) -> Iterator[str]:
    for d_model in WIDTHS:
        product = machine.product(d_model, "float32")
        linear, onednn = product.linear_gflops, product.onednn_gflops
        if onednn is not None and onednn > NOTABLE * linear:
            yield (
                f"At d_model={d_model} oneDNN multiplies {onednn / linear:.1f} times as fast as F.linear "
                f"({onednn:.0f} against {linear:.0f} GFLOP/s): the BLAS of this torch is slow here at that "
                "size; addnorm's own layers take the other route."
            )


def _memory(machine: Machine) -> Iterator[str]:
    ratio = machine.reused_copy_gb_per_s / machine.fresh_copy_gb_per_s
    if ratio > NOTABLE:
        yield (
            f"Writing into new large tensors is {ratio:.1f} times slower than into existing ones, because the system "
            "clears every page anew; with glibc set MALLOC_MMAP_THRESHOLD_=1073741824 "
            "MALLOC_TRIM_THRESHOLD_=2147483648, which keeps freed memory for the next tensor."
        )
    if machine.memory_bytes is not None and machine.memory_bytes < LITTLE_MEMORY:
        yield f"Only {machine.memory_bytes / 1e9:.1f} GB of memory are free; close programs, or use a smaller batch."


def _size(machine: Machine) -> Iterator[str]:
    small, large = (machine.product(d_model, "float32").linear_gflops for d_model in WIDTHS)
    if small * NOTABLE < large:
        yield (
            f"Narrow models cannot use this processor fully: at d_model={SMALL} it multiplies at {small:.0f} of "
            f"{large:.0f} GFLOP/s, and every operation costs {machine.operation_us:.0f} us before it computes; more "
            "tokens in a batch are cheap."
        )
