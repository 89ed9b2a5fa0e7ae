"""Positions: the sinusoidal formula, learned vectors, and rotary ones that see distances only."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from addnorm import UserError
from addnorm.layers.attention import Attention, AttentionOptions
from addnorm.layers.context import Context
from addnorm.layers.position import LearnedPosition, Rotary, SinusoidalPosition
from oracles.ties import randomise_


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_sinusoidal_positions_are_the_paper_s_formula():
    found = SinusoidalPosition(6)(torch.arange(50), torch.float64)
    for p in range(50):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert found[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert found[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_sinusoidal_positions_far_away_are_exact_to_the_precision_of_the_angle():
    exact = SinusoidalPosition(8)(torch.tensor([4095]), torch.float64)
    found = SinusoidalPosition(8)(torch.tensor([4095]), torch.float32)
    # An angle of 4095 has a rounding of 2^-12 in float32.
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2**-11)


def test_a_shift_is_a_rotation_of_the_sinusoids():
    """The inner product of two sinusoidal positions depends on their distance alone."""
    found = SinusoidalPosition(8)(torch.arange(20), torch.float64)
    products = found @ found.T
    for distance in range(10):
        torch.testing.assert_close(
            products.diagonal(distance), products[0, distance].expand(20 - distance), rtol=0, atol=1e-12
        )


def test_learned_positions_are_rows_of_a_table():
    layer = LearnedPosition(7, 4)
    positions = torch.tensor([[3, 0], [6, 6]])
    assert torch.equal(layer(positions, torch.float32), layer.table.weight[positions])


def test_rotary_turns_each_pair_by_its_angle():
    x, position = vectors(1, 1, 1, 6), 5
    turned, _ = Rotary(6)(x, x, torch.tensor([position]))
    for i in range(3):
        first, second = x[0, 0, 0, i].item(), x[0, 0, 0, i + 3].item()
        expected = complex(first, second) * complex(
            math.cos(position * 10000 ** (-2 * i / 6)), math.sin(position * 10000 ** (-2 * i / 6))
        )
        assert turned[0, 0, 0, i].item() == pytest.approx(expected.real, abs=1e-12)
        assert turned[0, 0, 0, i + 3].item() == pytest.approx(expected.imag, abs=1e-12)


@given(query_at=st.integers(0, 500), key_at=st.integers(0, 500), shift=st.integers(0, 500))
def test_a_rotary_score_depends_on_the_distance_alone(query_at, key_at, shift):
    rotary, query, key = Rotary(8), vectors(1, 1, 1, 8), vectors(1, 1, 1, 8, seed=2)

    def score(a: int, b: int) -> Tensor:
        turned, _ = rotary(query, query, torch.tensor([a]))
        return (turned * rotary(key, key, torch.tensor([b]))[0]).sum()

    # float64: angles of up to 1000, so 1e-13 of rounding in each.
    torch.testing.assert_close(score(query_at, key_at), score(query_at + shift, key_at + shift), rtol=0, atol=1e-10)


def test_rotary_keeps_lengths_and_leaves_position_zero():
    x = vectors(2, 3, 4, 8)
    turned, same = Rotary(8)(x, x, torch.arange(4))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0], rtol=0, atol=0)
    assert torch.equal(turned, same)


def test_rotary_takes_positions_of_each_row():
    x = vectors(2, 3, 4, 8)
    positions = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    turned, _ = Rotary(8)(x, x, positions)
    for row in range(2):
        alone, _ = Rotary(8)(x[row : row + 1], x[row : row + 1], positions[row])
        torch.testing.assert_close(turned[row : row + 1], alone, rtol=0, atol=0)


def test_rotary_gradients_are_those_of_finite_differences():
    rotary = Rotary(4)
    x, y = vectors(1, 2, 3, 4).requires_grad_(), vectors(1, 1, 3, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: rotary(a, b, torch.arange(3)), (x, y))


def test_attention_with_rotary_positions_sees_order_and_not_the_start():
    layer = Attention(8, 2, AttentionOptions(rotary=True)).double()
    randomise_(layer)
    x = vectors(2, 5, 8)
    whole = layer(x, Context(causal=True))
    later = layer(x, Context(causal=True, positions=torch.arange(100, 105)))
    torch.testing.assert_close(later, whole, rtol=0, atol=1e-11)  # float64, angles of about 100
    swapped = layer(x[:, [1, 0, 2, 3, 4]], Context(causal=True))
    assert not torch.allclose(swapped[:, -1], whole[:, -1])


@pytest.mark.parametrize("make", [lambda: SinusoidalPosition(5), lambda: Rotary(5)])
def test_an_odd_width_is_refused(make):
    with pytest.raises(UserError, match="is odd"):
        make()


@pytest.mark.parametrize("base", [100.0, 500_000.0])
def test_the_base_sets_how_slow_the_slowest_turn_is(base):
    query, positions = vectors(1, 1, 9, 6), torch.arange(9)
    turned, _ = Rotary(6, base)(query, query, positions)
    pairs = torch.complex(query[..., :3], query[..., 3:])
    angles = positions[:, None] * base ** (-torch.arange(3, dtype=torch.float64) / 3)
    expected = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1), rtol=0, atol=1e-12)  # float64


def test_a_base_that_is_no_positive_number_is_refused():
    with pytest.raises(UserError, match="rotary_base=0 is not allowed"):
        AttentionOptions(rotary=True, rotary_base=0)
