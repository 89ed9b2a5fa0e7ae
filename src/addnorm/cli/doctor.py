"""`addnorm doctor`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from addnorm.cli.invoke import invoke

if TYPE_CHECKING:
    from addnorm.probes.machine import Machine

# What changes how fast torch computes, where it finds data, or what this command prints.
VARIABLES = re.compile(
    r"(ADDNORM|OMP|MKL|KMP|OPENBLAS|GOMP|ONEDNN|DNNL|ATEN|TORCH|PYTORCH|MALLOC|HF)_\w+|LD_PRELOAD|CUDA_VISIBLE_DEVICES|NO_COLOR|COLUMNS"
)


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """How to print."""

    json: bool = False
    """As JSON on standard output."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm doctor`."""
    return invoke(_doctor, "doctor", words, DoctorOptions)


def _doctor(options: DoctorOptions) -> int:
    """Measure this machine for a few seconds, and say what is slow about it and what to do."""
    from addnorm.cli import console
    from addnorm.cli.progress import Live

    with Live(quiet=options.json) as live:
        live.doing("measuring")
        from addnorm.kernels.choice import status
        from addnorm.probes.machine import measure
        from addnorm.probes.machine_advice import advice
        from addnorm.training.environment import describe

        about, machine = describe(), measure()
    kernels = status()
    variables = {name: value for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)}
    sentences = advice(machine)
    if options.json:
        console.print_json(
            {**about, "variables": variables, "machine": asdict(machine), "kernels": kernels, "advice": sentences}
        )
    else:
        screen = console.out()
        for line in (*_facts(about, machine, variables), *_rates(machine), *_kernels(kernels), *_advice(sentences)):
            screen.print(line, markup=False)
    return 0


def _facts(about: dict[str, Any], machine: Machine, variables: dict[str, str]) -> Iterator[str]:
    memory = "unknown" if machine.memory_bytes is None else f"{machine.memory_bytes / 1e9:.1f} GB free"
    load = "unknown" if machine.load is None else f"{machine.load:.1f}"
    yield f"addnorm     {about['addnorm']}, Python {about['python']}"
    yield f"packages    {', '.join(f'{name} {version}' for name, version in about['packages'].items())}"
    yield f"platform    {about['platform']}"
    yield f"processor   {about['processor']}, {machine.cores:g} cores, {machine.instructions}"
    yield f"threads     {machine.threads}; load {load}"
    yield f"memory      {memory}"
    set_ones = " ".join(f"{name}={value}" for name, value in variables.items())
    yield f"variables   {set_ones or 'none that matter'}"


def _rates(machine: Machine) -> Iterator[str]:
    yield "\nmatrix products in GFLOP/s, 512 tokens from d_model to 4 d_model"
    yield "  d_model  precision  F.linear  oneDNN"
    somewhere = any(item.onednn_gflops is not None for item in machine.products)
    missing = "not on this processor" if somewhere else "not in this torch"
    for item in machine.products:
        onednn = missing if item.onednn_gflops is None else f"{item.onednn_gflops:>6.1f}"
        yield f"  {item.d_model:<7}  {item.precision:<9}  {item.linear_gflops:>8.1f}  {onednn}"
    reused, fresh = machine.reused_copy_gb_per_s, machine.fresh_copy_gb_per_s
    yield f"copying 64 MB: {reused:.1f} GB/s, into a new tensor {fresh:.1f} GB/s"
    if machine.threads > 1:
        yield (
            f"{machine.threads} threads against one: large products {machine.large_thread_speedup:.2f} times as fast, "
            f"small copies {machine.small_thread_speedup:.2f}"
        )
    yield f"smallest operation: {machine.operation_us:.1f} us"


def _kernels(kernels: dict[str, str]) -> Iterator[str]:
    yield "\nkernels of this library, and what computes them here"
    width = max(map(len, kernels))
    for name, runs in kernels.items():
        yield f"  {name:<{width}}  {runs}"
    yield "  ADDNORM_KERNELS=torch takes torch's operations alone"


def _advice(sentences: Sequence[str]) -> Iterator[str]:
    yield "\nWhat is slow here, and what to do" if sentences else "\nNothing is unusually slow here."
    for sentence in sentences:
        yield f"- {sentence}"
