"""mHC-lite: its equation, its permutations, its start."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from addnorm import UserError
from addnorm.schemes.mhc_lite import MHCLite
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like, projected, small, tokens
from schemes.mixing_equation import equation
from transcription import assert_agrees


def birkhoff(n: int):
    def matrix(logits: Tensor) -> Tensor:
        weights = torch.exp(logits) / torch.exp(logits).sum()
        rows = [[0.0] * n for _ in range(n)]
        for weight, order in zip(weights, permutations(range(n)), strict=True):
            for i, j in enumerate(order):
                rows[i][j] = rows[i][j] + weight
        return torch.stack([torch.stack(row) for row in rows])

    return matrix


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(MHCLite(norm=kind, streams=3, alpha=0.9), equation(3, birkhoff(3)))


def moved(n: int) -> Tensor:
    """`H_res` of each token, far from the identity."""
    connection = MHCLite(streams=n, alpha=1.0).connection(8, sites(4)[1]).double()
    with torch.no_grad():
        for parameter in connection.coefficients.parameters():
            parameter.copy_(noise_like(parameter))
    _, (_, weights) = connection.read(noise_like(torch.empty(2, 5, n, 8, dtype=torch.float64)))
    return weights[..., :-1]


def test_its_mixing_is_doubly_stochastic_exactly_and_not_symmetric():
    mixing = moved(4)
    for dim in (-1, -2):  # 1e-14: float64 sums of 24 weights
        torch.testing.assert_close(mixing.sum(dim), torch.ones_like(mixing.sum(dim)), rtol=0.0, atol=1e-14)
    assert (mixing - mixing.mT).abs().max() > 0.1


def test_it_starts_near_the_identity_and_favours_its_home_stream():
    coefficients = MHCLite().connection(8, sites(6)[5]).coefficients
    pre, weights = coefficients(noise_like(torch.empty(3, 4, 8)))
    # 23 of the 24 permutations have e^-8 each, 0.0077 together; the home stream of site 5 is 5 mod 4.
    torch.testing.assert_close(weights[..., :-1], torch.eye(4).expand(3, 4, 4), rtol=0.0, atol=0.008)
    torch.testing.assert_close(pre[0], torch.tensor([0.2689, 0.7311, 0.2689, 0.2689]), rtol=0.0, atol=1e-4)
    torch.testing.assert_close(weights[0, :, -1], torch.tensor([0.5379, 1.4621, 0.5379, 0.5379]), rtol=0.0, atol=1e-4)


def test_the_number_of_parameters_at_the_width_of_a_large_model():
    with torch.device("meta"):
        coefficients = MHCLite().connection(4096, sites(4)[0]).coefficients
    assert sum(p.numel() for p in coefficients.parameters()) == 4 * 4096 * (24 + 8) + 24 + 8 + 3


def test_too_many_streams_are_refused():
    with pytest.raises(UserError, match="streams=7 is not allowed.*n! permutations; use 2 to 6, or mhc or krom-hc"):
        MHCLite(streams=7)


def test_a_first_forward_in_inference_mode_leaves_nothing_that_training_cannot_keep():
    from addnorm.schemes.mhc_lite import _kept_entries

    _kept_entries.cache_clear()
    model = small(MHCLite(streams=3))
    with torch.inference_mode():
        model(tokens())
    projected(model(tokens())).backward()
    assert _kept_entries.cache_info().misses == 1 and _kept_entries.cache_info().hits > 1
