"""What is measured of a machine, and what is said about it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from addnorm.probes import machine as probe
from addnorm.probes.machine import Machine, Product, measure, seconds, usable_cores
from addnorm.probes.machine_advice import advice


def product(d_model, precision, linear, onednn):
    return Product(d_model=d_model, precision=precision, linear_gflops=linear, onednn_gflops=onednn)


GOOD = Machine(
    cores=2,
    threads=2,
    load=0.1,
    memory_bytes=16_000_000_000,
    instructions="AVX512",
    products=(
        product(64, "float32", 45.0, 45.0),
        product(64, "bfloat16", 50.0, 50.0),
        product(1024, "float32", 50.0, 50.0),
        product(1024, "bfloat16", 60.0, 60.0),
    ),
    reused_copy_gb_per_s=10.0,
    fresh_copy_gb_per_s=9.0,
    large_thread_speedup=1.9,
    small_thread_speedup=1.1,
    operation_us=2.0,
)


def with_product(changed):
    """The good machine with another rate for one product."""
    key = (changed.d_model, changed.precision)
    return replace(GOOD, products=tuple(changed if (p.d_model, p.precision) == key else p for p in GOOD.products))


def test_nothing_is_said_of_a_good_machine():
    assert advice(GOOD) == []


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (replace(GOOD, load=3.5), "Other programs are computing (load 3.5 on 2 cores)"),
        (replace(GOOD, threads=8, large_thread_speedup=8), "torch has 8 threads on 2 cores"),
        (replace(GOOD, threads=1), "torch has 1 of 2 cores; set OMP_NUM_THREADS=2"),
        (
            replace(GOOD, cores=0.5),
            "torch has 2 threads on 0.5 cores, so they wait for each other; set OMP_NUM_THREADS=1",
        ),
        (replace(GOOD, large_thread_speedup=1.1), "2 threads multiply large matrices only 1.1 times as fast as one"),
        (replace(GOOD, small_thread_speedup=0.25), "4.0 times slower with 2 threads than with one"),
        (
            with_product(product(1024, "bfloat16", 10.0, 10.0)),
            "bfloat16 is 5.0 times slower than float32 here (10 against 50",
        ),
        (with_product(product(1024, "bfloat16", 150.0, 150.0)), "bfloat16 is 3.0 times as fast as float32"),
        (
            with_product(product(64, "float32", 45.0, 90.0)),
            "At d_model=64 oneDNN multiplies 2.0 times as fast as F.linear",
        ),
        (with_product(product(64, "float32", 5.0, 5.0)), "at d_model=64 it multiplies at 5 of 50 GFLOP/s"),
        (replace(GOOD, fresh_copy_gb_per_s=2.5), "4.0 times slower than into existing ones"),
        (replace(GOOD, memory_bytes=1_000_000_000), "Only 1.0 GB of memory are free"),
        (replace(GOOD, instructions="DEFAULT"), "no AVX2"),
    ],
)
def test_each_slowness_is_said_with_its_figures(machine, said):
    sentences = advice(machine)
    assert len(sentences) == 1
    assert said in sentences[0]


def test_what_the_system_does_not_tell_is_left_out():
    assert advice(replace(GOOD, load=None, memory_bytes=None)) == []
    assert advice(replace(GOOD, products=tuple(replace(p, onednn_gflops=None) for p in GOOD.products))) == []


@pytest.mark.slow
def test_measuring_leaves_threads_and_gradients_as_they_were(monkeypatch):
    for name, value in {"REPEAT_S": 1e-3, "REPEATS": 1, "TOKENS": 16, "LARGE_ELEMENTS": 2**18}.items():
        monkeypatch.setattr(probe, name, value)
    threads = torch.get_num_threads()
    machine = measure()
    assert torch.get_num_threads() == threads == machine.threads
    assert torch.is_grad_enabled()
    assert machine.cores == usable_cores() > 0
    assert {(p.d_model, p.precision) for p in machine.products} == {
        (d, precision) for d in (64, 1024) for precision in ("float32", "bfloat16")
    }
    assert machine.operation_us > 0


def test_seconds_are_seconds(monkeypatch):
    monkeypatch.setattr(probe, "REPEAT_S", 0.02)
    # sleep never returns early; the upper bound leaves room for a neighbour that holds the core.
    assert 0.01 <= seconds(lambda: time.sleep(0.01)) < 0.1


def test_a_containers_quota_counts(monkeypatch):
    monkeypatch.setattr(probe, "_cgroup", lambda file, otherwise: "50000 100000" if file == "cpu.max" else otherwise)
    assert usable_cores() == 0.5
    monkeypatch.setattr(probe, "_cgroup", lambda file, otherwise: otherwise)
    assert usable_cores() >= 1


def test_a_processor_that_lacks_what_onednn_asks_for_has_no_rate_of_it(monkeypatch):
    def refuse(x, weight):
        raise RuntimeError("mkldnn_linear: bf16 path needs the cpu support avx_ne_convert")

    monkeypatch.setattr(probe.F, "linear", refuse)
    assert probe._onednn_rate(16, torch.float32) is None
