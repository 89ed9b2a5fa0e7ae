"""LayerNorm of rows far from zero, or of equal numbers, in every kernel that has one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels import mhc_site
from addnorm.kernels.add_norm import add_norm, add_norm_reference
from addnorm.kernels.depth_history import Norm, begin
from addnorm.kernels.depth_history_call import LAYER
from addnorm.kernels.mhc_read import Numbers
from addnorm.kernels.mhc_weights import Form, Weights
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.layers.norm import LayerNorm
from addnorm.testing.small_models import noise_like

KIND = NormOfSum(eps=1e-5, centred=True)
WIDTHS = [3, 8, 33, 512]  # less than a vector, whole vectors, rests


def by_add_norm(x: Tensor) -> Tensor:
    d = x.shape[-1]
    return add_norm(x, None, torch.ones(d, dtype=x.dtype), torch.zeros(d, dtype=x.dtype), KIND)[1]


def by_add_norm_with_an_update(x: Tensor) -> Tensor:
    d = x.shape[-1]
    return add_norm(x / 2, x / 2, torch.ones(d, dtype=x.dtype), torch.zeros(d, dtype=x.dtype), KIND)[1]


def by_reference(x: Tensor) -> Tensor:
    return add_norm_reference(x, None, torch.ones(x.shape[-1]), None, KIND)[1]


def by_layer(x: Tensor) -> Tensor:
    return LayerNorm(x.shape[-1]).to(x.dtype)(x)


def by_mhc(x: Tensor) -> Tensor:
    """The one stream is read with a weight of `sigmoid(20)`, which is 1 in float32."""
    d = x.shape[-1]
    weights = Weights(
        phi=torch.zeros(3, d), alpha=torch.zeros(3), bias=torch.tensor([20.0, 0.0, 0.0]), gain=torch.ones(d),
        shift=torch.zeros(d), form=Form(numbers=Numbers(iterations=1, eps=1e-6), norm="layer", norm_eps=1e-5),
    )  # fmt: skip
    return mhc_site.read(x.unsqueeze(-2), weights)[0]


def by_depth_history(x: Tensor) -> Tensor:
    d = x.shape[-1]
    history = begin([x], [torch.zeros(d)], 1e-5)
    if history is None:
        pytest.skip("there is no C++ compiler")
    return history.read(Norm(kind=LAYER, weight=torch.ones(d), bias=torch.zeros(d), eps=1e-5))[0]


WAYS = [by_add_norm, by_add_norm_with_an_update, by_reference, by_layer, by_mhc, by_depth_history]


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("way", WAYS)
def test_a_row_of_equal_numbers_is_zero_and_has_no_gradient_along_itself(way: Callable[[Tensor], Tensor], d: int):
    for value in (0.0, 0.1, -12345.678, 1e5):
        x = torch.full((4, d), value, requires_grad=True)
        normed = way(x)
        assert torch.equal(normed, torch.zeros(4, d)), value
        grad = noise_like(normed)
        normed.backward(grad)
        # The formula's at zero deviation: the gradient less its mean, over the root of eps. 1e-5: float32.
        expected = (grad - grad.mean(-1, keepdim=True)) * 1e-5**-0.5
        torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("way", [by_add_norm, by_add_norm_with_an_update, by_reference, by_mhc, by_depth_history])
def test_an_offset_costs_nothing(way: Callable[[Tensor], Tensor], d: int):
    x = (noise_like(torch.empty(5, d)) + 1e5).requires_grad_()
    exact = x.detach().double().requires_grad_()
    normed, expected = way(x), F.layer_norm(exact, (d,))
    # Of a mean in float32, whose steps are 2^-7 here, it would be 1e-2.
    torch.testing.assert_close(normed.double(), expected, rtol=0, atol=2e-6)
    grad = noise_like(expected)
    normed.backward(grad.float())
    expected.backward(grad.float().double())
    assert x.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)  # float32 sums of `d` terms


def test_one_large_feature_costs_nothing_wherever_it_stands():
    for place in (0, 7):
        x = noise_like(torch.empty(5, 512))
        x[:, place] = 3e4
        # A large first number is what all are counted from: it lies within sqrt(512) deviations of the mean.
        torch.testing.assert_close(by_add_norm(x).double(), F.layer_norm(x.double(), (512,)), rtol=0, atol=4e-6)
