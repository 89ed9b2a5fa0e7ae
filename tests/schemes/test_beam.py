"""Beam: a running sum of unit variance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack
from addnorm.schemes.beam import Beam
from addnorm.schemes.sandwich_norm import SandwichNorm
from transcription import Parts, assert_agrees, norm, real_sublayers


def equation(parts: Parts) -> Tensor:
    total = parts.x
    for count, (F, p) in enumerate(zip(parts.F, parts.at, strict=True), start=1):
        # Written as the sum that it is, divided by the root of the number of its terms.
        x = total / count**0.5
        total = total + norm(F(norm(x, p, "input_norm", eps=1e-6)), p, "output_norm", eps=1e-6)
    return norm(total / (len(parts.F) + 1) ** 0.5, parts.exit, "norm", eps=1e-6)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(Beam(norm=kind), equation)


def test_its_sums_are_those_of_transformers():
    theirs = pytest.importorskip("transformers.models.beam.modeling_beam").depth_scaled_residual_add
    stack = Stack(Beam(), [nn.Identity()] * 6, 16).double()
    for k, block in enumerate(stack.blocks, start=2):
        skip, update = (torch.randn(3, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
        ours, other = block.connection.write(skip, update), theirs(block.connection.output_norm(update), skip, k)
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)
        weights = torch.randn_like(ours)
        for one, two in zip(
            torch.autograd.grad((ours * weights).sum(), [skip, update]),
            torch.autograd.grad((other * weights).sum(), [skip, update]),
            strict=True,
        ):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


class Noise(nn.Module):
    """A sublayer that writes unit noise."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


def test_the_variance_stays_one_at_any_depth():
    torch.manual_seed(0)
    stack = Stack(Beam(), [Noise() for _ in range(198)], 64)
    state = torch.randn(64, 64)
    for block in stack.blocks:
        state = block(state)
    # 6 %: the variance of 4096 numbers is known to sqrt(2 / 4096) = 2.2 %.
    assert float(state.detach().var()) == pytest.approx(1.0, rel=0.06)


def test_it_is_sandwich_norm_divided_by_the_root_of_its_terms_where_norms_have_no_eps():
    torch.manual_seed(0)
    sublayers = real_sublayers(2)
    ours, plain = (Stack(one, sublayers, 12).double() for one in (Beam(), SandwichNorm(norm="rms")))
    for stack in (ours, plain):
        for module in stack.modules():
            if hasattr(module, "eps"):
                module.eps = 1e-30
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), plain(x))
