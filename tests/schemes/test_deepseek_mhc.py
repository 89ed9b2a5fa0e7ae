"""DeepSeek mHC: what its order of normalisation and its eps do; `oracles/stream_layers.py` holds it against V4."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.kernels.sinkhorn_with_eps import sinkhorn_with_eps
from addnorm.schemes.deepseek_mhc import DeepseekMHC
from addnorm.schemes.mhc import MHC
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like

# Far from the identity and from symmetry: a transposed matrix must show.
MIXING = DeepseekMHC(streams=3, alpha=0.9, diagonal=0.5, projection_std=0.4)


def site(scheme: DeepseekMHC = MIXING) -> tuple[nn.Module, Tensor]:
    """A connection and different streams, in float64."""
    torch.manual_seed(0)
    connection = scheme.connection(8, sites(4)[1]).double()
    return connection, noise_like(torch.empty(2, 5, scheme.streams, 8, dtype=torch.float64))


def test_columns_of_the_stored_matrix_sum_to_one_less_eps():
    matrix = sinkhorn_with_eps(2 * noise_like(torch.empty(4, 4, 50, dtype=torch.float64)), 20, 1e-6)
    short = 1 - matrix.sum(0)
    # The last step divides a sum near 1 by itself plus 1e-6.
    torch.testing.assert_close(short, torch.full_like(short, 1e-6), rtol=0.1, atol=0.0)
    assert (matrix.sum(1) - 1).abs().max() > 1e-4


def test_the_stored_matrix_is_applied_transposed():
    connection, streams = site()
    _, (_, weights) = connection.read(streams)
    mixing = weights[..., :-1]
    # The new stream i is a mean of the old ones, so rows of what is applied sum to 1, and columns only nearly.
    torch.testing.assert_close(mixing.sum(-1), torch.ones_like(mixing[..., 0]), rtol=0.0, atol=2e-6)
    assert (mixing - mixing.mT).abs().max() > 0.1
    mixed = connection.write((streams, weights), torch.zeros(2, 5, 8).double())
    expected = torch.einsum("...ij,...jd->...id", mixing, streams)
    torch.testing.assert_close(mixed, expected, rtol=1e-12, atol=1e-12)


def test_it_is_the_connection_of_the_paper_up_to_eps():
    theirs = site()[0].coefficients
    ours = MHC(streams=3, alpha=0.9, diagonal=0.5, projection_std=0.4, eps=1e-6).connection(8, sites(4)[1]).double()
    n = 3
    order = torch.cat((torch.arange(2 * n), 2 * n + torch.arange(n * n).view(n, n).T.flatten()))
    with torch.no_grad():
        ours.phi.copy_(theirs.phi[order])
        ours.bias.copy_(theirs.bias[order])
        ours.alpha.copy_(theirs.alpha)
    connection, streams = site()
    connection.coefficients.load_state_dict(theirs.state_dict())
    update = noise_like(torch.empty(2, 5, 8, dtype=torch.float64), seed=5)
    one, two = (each.write(each.read(streams)[1], update) for each in (connection, ours))
    torch.testing.assert_close(one, two, rtol=0.0, atol=1e-3)  # 39 normalisations with an eps of 1e-6 each, times X
    assert not torch.allclose(one, two, rtol=0.0, atol=1e-8)


def test_it_starts_as_pre_norm_whatever_the_mixing():
    sublayers = [nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)) for _ in range(6)]
    ours = Stack(DeepseekMHC(), sublayers, 8).double()
    with torch.no_grad():
        for seed, block in enumerate(ours.blocks):
            res = block.connection.coefficients.bias[8:]
            res += 1.5 * noise_like(res, seed)
    x = noise_like(torch.empty(3, 8, dtype=torch.float64))
    # 1e-4: a norm's eps of 1e-5 weighs differently against a stream that the head has scaled.
    torch.testing.assert_close(ours(x), Stack(PreNorm(norm="rms"), sublayers, 8).double()(x), rtol=1e-4, atol=1e-4)


def test_the_number_of_parameters_at_the_width_of_a_large_model():
    with torch.device("meta"):
        connection = DeepseekMHC().connection(4096, sites(4)[0])
    assert sum(p.numel() for p in connection.coefficients.parameters()) == 393_243


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong, text in (
        ({"streams": 1}, "streams=1 is not allowed"),
        ({"iterations": 0}, "iterations=0 is not allowed"),
        ({"hc_eps": 0.0}, "hc_eps=0.0 is not allowed"),
        ({"eps": 0.0}, "eps=0.0 is not allowed"),
        ({"read_from": "all"}, "stay equal for ever"),
    ):
        with pytest.raises(UserError, match=text):
            DeepseekMHC(**wrong)
