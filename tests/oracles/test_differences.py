"""Schemes agree with independent implementations in value and in every gradient."""

from __future__ import annotations

import pytest
import torch

from agreement import TOLERANCE, TRAINED
from oracles.cases import CASES
from oracles.ties import differences, parted


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_agree(case, dtype):
    found = differences(case.build(dtype))
    assert found.value <= TOLERANCE[dtype]
    assert found.gradient <= TOLERANCE[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_after_twenty_steps_of_training_they_still_agree(case):
    assert parted(case.build(torch.float64)) <= TRAINED
