"""KromHC: its equation, its Kronecker product, its start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import UserError
from addnorm.schemes.krom_hc import KromHC
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from schemes.mixing_equation import equation
from transcription import assert_agrees


def kronecker(logits: Tensor) -> Tensor:
    product = torch.ones(1, 1, dtype=logits.dtype)
    for one, two in zip(logits[::2], logits[1::2], strict=True):
        p = torch.exp(one) / (torch.exp(one) + torch.exp(two))
        product = torch.kron(product, torch.stack((torch.stack((p, 1 - p)), torch.stack((1 - p, p)))))
    return product


@pytest.mark.parametrize("streams", [2, 4])
def test_it_is_its_equation(streams):
    assert_agrees(KromHC(streams=streams, alpha=0.9), equation(streams, kronecker))


def test_eight_streams_have_three_factors_in_order():
    coefficients = KromHC(streams=8).connection(4, sites(2)[0]).coefficients
    logits = noise_like(torch.empty(6, 5, dtype=torch.float64))
    mixing = coefficients.matrix(logits)
    for token in range(5):
        torch.testing.assert_close(mixing[..., token], kronecker(logits[:, token]), rtol=1e-14, atol=1e-15)
    # A product is told from one with the factors in another order.
    assert (mixing[..., 0] - kronecker(logits[:, 0].view(3, 2).flip(0).flatten())).abs().max() > 0.01


def test_its_mixing_is_doubly_stochastic_exactly():
    mixing = (
        KromHC(streams=4)
        .connection(4, sites(2)[0])
        .coefficients.matrix(3 * noise_like(torch.empty(4, 50, dtype=torch.float64)))
    )
    for dim in (0, 1):  # 1e-14: float64 sums of 4 products
        torch.testing.assert_close(mixing.sum(dim), torch.ones(4, 50).double(), rtol=0.0, atol=1e-14)


def test_it_starts_near_the_identity():
    _, weights = KromHC().connection(8, sites(6)[5]).coefficients(noise_like(torch.empty(3, 4, 8)))
    torch.testing.assert_close(weights[..., :-1], torch.eye(4).expand(3, 4, 4), rtol=0.0, atol=7e-4)  # 2 e^-8
    torch.testing.assert_close(weights[0, :, -1], torch.tensor([0.5379, 1.4621, 0.5379, 0.5379]), rtol=0.0, atol=1e-4)


def test_the_number_of_parameters_at_the_width_of_a_large_model():
    with torch.device("meta"):
        coefficients = KromHC().connection(4096, sites(4)[0]).coefficients
    assert sum(p.numel() for p in coefficients.parameters()) == 4 * 4096 * (4 + 8) + 4 + 8 + 3


@pytest.mark.parametrize(("streams", "text"), [(3, "use 2 or 4"), (6, "use 4 or 8"), (12, "use 8 or 16")])
def test_streams_that_are_no_power_of_two_are_refused(streams, text):
    with pytest.raises(UserError, match=f"streams={streams} is not a power of two.*{text}, or mhc"):
        KromHC(streams=streams)
