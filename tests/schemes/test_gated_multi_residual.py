"""Gated multi-residual: its start, its size; `oracles/stream_layers.py` holds it against Qwen4-Exp."""

from __future__ import annotations

import pytest
import torch

from addnorm import UserError
from addnorm.schemes.gated_multi_residual import GatedMultiResidual
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like


def test_streams_are_never_mixed():
    connection = GatedMultiResidual(streams=3).connection(8, sites(2)[0])
    streams = noise_like(torch.empty(2, 3, 8))
    assert torch.equal(connection.write(connection.read(streams)[1], torch.zeros(2, 8)), streams)


def test_one_stream_changed_changes_what_is_read():
    connection = GatedMultiResidual(streams=3).connection(8, sites(2)[0])
    streams = noise_like(torch.empty(1, 3, 8))
    for stream in range(3):
        other = streams.clone()
        other[:, stream] = other[:, stream].flip(-1)
        assert (connection.read(other)[0] - connection.read(streams)[0]).abs().max() > 0.01


def test_it_starts_near_half_the_mean_of_the_normalised_streams_and_gains_of_one():
    torch.manual_seed(0)
    connection = GatedMultiResidual().connection(64, sites(2)[0])
    streams = noise_like(torch.empty(50, 4, 64))
    read, (_, gains) = connection.read(streams)
    normed = streams / streams.square().mean(-1, keepdim=True).sqrt()
    # Logits of the gains have std 0.02 sqrt(256) / 4 = 0.08, those of the gate less than 0.02.
    torch.testing.assert_close(read, normed.mean(-2) / 2, rtol=0.0, atol=0.03)
    torch.testing.assert_close(gains, torch.ones_like(gains), rtol=0.0, atol=0.3)
    assert gains.std(-1).min() > 1e-3  # streams part


def test_the_number_of_parameters_at_the_width_of_a_large_model():
    n, d, r = 4, 2048, 320
    with torch.device("meta"):
        connection = GatedMultiResidual().connection(d, sites(2)[0])
    assert sum(p.numel() for p in connection.parameters()) == n * d * (2 * r + n + 1)


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong, text in (
        ({"streams": 1}, "streams=1 is not allowed"),
        ({"rank": 0}, "rank=0 is not allowed"),
        ({"projection_std": 0.0}, "projection_std=0.0 is not allowed"),
        ({"norm": "layer"}, "norm=layer is not allowed: .* use norm=rms"),
    ):
        with pytest.raises(UserError, match=text):
            GatedMultiResidual(**wrong)
