"""Muse Spark's gate: its equation, the module it comes from, and the variance it keeps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.schemes.muse_spark import MuseSpark
from transcription import Parts, assert_agrees, norm


def equation(parts: Parts) -> Tensor:
    x = norm(parts.x, {f"norm.{name}": value for name, value in parts.entrance.items()}, "norm")
    for F, p in zip(parts.F, parts.at, strict=True):
        beta = 1 / (1 + torch.exp(-p["gate"] / 0.3))
        alpha = (1 - beta**2).clamp(min=1e-3) ** 0.5
        x = alpha * x + beta * norm(F(norm(x, p, "input_norm")), p, "output_norm", eps=1e-8)
    return norm(x, parts.exit, "norm")


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(MuseSpark(norm=kind), equation)


def test_its_gate_is_that_of_transformers():
    module = pytest.importorskip("transformers.models.muse_spark.modeling_muse_spark")
    theirs = module.MuseSparkResidualGate(SimpleNamespace(hidden_size=64, residual_gate_temperature=0.3)).double()
    ours = Stack(MuseSpark(norm="none"), [nn.Identity()], 64).double().blocks[0].connection
    with torch.no_grad():
        ours.gate.copy_(torch.linspace(-3, 3, 64))  # far enough for the least alpha
        theirs.gate.copy_(ours.gate)
    skip, update = (torch.randn(3, 64, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = torch.randn(3, 64, dtype=torch.float64)
    one, two = ours.write(skip, update), theirs(skip, update)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((one * weights).sum(), [skip, update, ours.gate]),
        torch.autograd.grad((two * weights).sum(), [skip, update, theirs.gate]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class Noise(nn.Module):
    """A sublayer that writes unit noise."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


@pytest.mark.parametrize("init", [-1.0, 0.0, 0.5])
def test_the_variance_stays_one_at_any_depth(init):
    torch.manual_seed(0)
    stack = Stack(MuseSpark(init=init), [Noise() for _ in range(200)], 64)
    state = stack.entrance(torch.randn(64, 64))
    for block in stack.blocks:
        state = block(state)
    # 6 %: the variance of 4096 numbers is known to sqrt(2 / 4096) = 2.2 %.
    assert float(state.detach().var()) == pytest.approx(1.0, rel=0.06)


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="temperature=0"):
        MuseSpark(temperature=0)
    with pytest.raises(UserError, match="init=nan"):
        MuseSpark(init=float("nan"))
