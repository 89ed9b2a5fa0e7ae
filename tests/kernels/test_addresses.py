"""A tensor that keeps its numbers elsewhere never reaches a kernel that reads addresses.

In a process of its own: what goes wrong here ends the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from addnorm.kernels.native import addresses, has_address


@pytest.mark.slow
def test_a_wrapper_subclass_takes_torchs_path():
    words = [sys.executable, str(Path(__file__).with_name("wrapped_arguments.py"))]
    told = subprocess.run(words, capture_output=True, text=True, timeout=300)
    said = told.stdout.splitlines()
    assert told.returncode == 0, told.stdout + told.stderr[-3000:]
    assert [line.split()[0] for line in said if line.endswith(" tried")] == ["functions", "sublayers", "shards"], said


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, device="meta"),
        torch._efficientzerotensor((2,)),
        torch.imag(torch.ones(2, dtype=torch.complex64).conj()),
        torch.ones(2, 2).to_sparse(),
    ],
    ids=["meta", "zero", "negated", "sparse"],
)
def test_what_has_no_address_is_not_asked_for_one(tensor):
    assert not has_address(tensor)
    with pytest.raises(AssertionError, match="has no address"):
        addresses(tensor)
