"""Two computations held against each other in value and in every gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from addnorm.testing.small_models import noise_like, projected

# What the project promises, relative to the larger of 1 and the largest entry.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def outcome(compute: Callable[[], Any], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is computed, and the gradient of one number that every entry of it has a share in."""
    result = compute()
    gradients = torch.autograd.grad(projected(result), list(named.values()))
    values = result if isinstance(result, tuple) else (result,)
    return {f"output {i}": value.detach() for i, value in enumerate(values)} | dict(zip(named, gradients, strict=True))


# After training. Gradients of nothing but rounding, such as those of keys' biases, are divided by Adam's eps of 1e-8:
# 2e-9 at most is seen. A parameter that one side shares and the other has twice parts by 1e-3 and more.
TRAINED = 1e-7
STEPS = 20


def train_(compute: Callable[[], Any], parameters: Sequence[Tensor]) -> Any:
    """What is computed after some steps of Adam towards noise of its size; the parameters have moved.

    One forward and backward cannot tell a parameter that another implementation shares from two that only start equal:
    their gradients are added up there and apart here, and the first step shows it.
    """
    optimizer = torch.optim.Adam(parameters, 1e-2, foreach=False)
    for step in range(STEPS):
        optimizer.zero_grad()
        outputs = compute()
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum((output - noise_like(output, step)).square().mean() for output in outputs).backward()
        optimizer.step()
    with torch.no_grad():
        return compute()


def after_training(compute: Callable[[], Any], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As `outcome`, after some steps of training, and in the place of each gradient how far a tensor has moved.

    All is put back then, so that another computation can be trained from the same start, with what both share.
    """
    before = {name: tensor.detach().clone() for name, tensor in named.items()}
    result = train_(compute, list(named.values()))
    moved = {name: tensor.detach() - before[name] for name, tensor in named.items()}
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(before[name])
    values = result if isinstance(result, tuple) else (result,)
    return {f"output {i}": value for i, value in enumerate(values)} | moved


# How two implementations are held against each other, and how near they must be.
COMPARISONS = [
    pytest.param(outcome, torch.float32, TOLERANCE[torch.float32], id="float32"),
    pytest.param(outcome, torch.float64, TOLERANCE[torch.float64], id="float64"),
    pytest.param(after_training, torch.float64, TRAINED, id="trained"),
]


def assert_agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    """Every named tensor agrees, and none is all zeros, where any two would."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert expected.abs().max() > 0, f"{name}: nothing to compare"
        assert ours[name].shape == expected.shape, name
        is_within(tolerance, name, ours[name], expected)


def is_within(tolerance: float, name: str, ours: Tensor, expected: Tensor) -> None:
    """The largest difference is at most the tolerance, relative to the larger of 1 and the largest entry.

    Every comparison with another computation passes here, so that the catalogue's table can read what it measured.
    """
    error = float((ours.to(expected.dtype) - expected).abs().max() / expected.abs().max().clamp_min(1.0))
    assert error <= tolerance, f"{name}: {error:.1e}, allowed {tolerance:.0e}"


@torch.no_grad()
def scatter_(module: torch.nn.Module, size: float = 0.5, seed: int = 0) -> None:
    """Fill every parameter with asymmetric noise about its initial value."""
    for number, parameter in enumerate(module.parameters()):
        parameter.add_(size * (noise_like(parameter, seed + number) + 0.2))
