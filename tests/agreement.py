"""Two computations held against each other in value and in every gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from small_models import noise_like, projected

# What the project promises, relative to the larger of 1 and the largest entry.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def outcome(compute: Callable[[], Any], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is computed, and the gradient of one number that every entry of it has a share in."""
    result = compute()
    gradients = torch.autograd.grad(projected(result), list(named.values()))
    values = result if isinstance(result, tuple) else (result,)
    return {f"output {i}": value.detach() for i, value in enumerate(values)} | dict(zip(named, gradients, strict=True))


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
