"""Schemes agree with independent implementations in value and in every gradient."""

from __future__ import annotations

import pytest
import torch

from oracles.cases import CASES
from oracles.ties import differences, parted

# What the project promises.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_agree(case, dtype):
    found = differences(case.build(dtype))
    assert found.value <= TOLERANCE[dtype]
    assert found.gradient <= TOLERANCE[dtype]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_after_twenty_steps_of_training_they_still_agree(case):
    # Gradients of nothing but rounding, such as those of keys' biases, are divided by Adam's eps of 1e-8: 2e-9 at most
    # is seen. A parameter that one side shares and the other has twice parts by 1e-3.
    assert parted(case.build(torch.float64)) <= 1e-7
