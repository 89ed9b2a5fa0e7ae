"""Frac-connections: the paper's equation, its parameter counts, its start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError
from addnorm.layers.feedforward import FeedForward
from addnorm.schemes.frac_connections import FracConnections
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from transcription import Parts, assert_agrees, norm


def equation(m: int):
    """Equations 8 and 11 to 14, one coefficient after the other."""

    def compute(parts: Parts) -> Tensor:
        h = list(parts.x.chunk(m, dim=-1))
        for F, p in zip(parts.F, parts.at, strict=True):
            normed = [norm(part, p, "fraction_norm", "rms" if p.kind == "rms" else "layer") for part in h]

            def weight(i: int, k: int, p=p, normed=normed) -> Tensor:
                scale = p["scale"][1 if k == 2 * m else 0]
                dynamic = scale * torch.tanh((normed[i] * p["weight"][k]).sum(-1, keepdim=True))
                return p["static"][i, k] + dynamic

            read = [sum(weight(i, k) * h[i] for i in range(m)) for k in range(m)]
            y = F(norm(torch.cat(read, dim=-1), p, "norm")).chunk(m, dim=-1)
            h = [sum(weight(i, m + k) * h[i] for i in range(m)) + weight(k, 2 * m) * y[k] for k in range(m)]
        return norm(torch.cat(h, dim=-1), parts.exit, "norm")

    return compute


@pytest.mark.parametrize(("kind", "fractions"), [("layer", 2), ("rms", 4), ("none", 3)])
def test_it_is_its_equation(kind, fractions):
    assert_agrees(FracConnections(norm=kind, fractions=fractions, scale=0.7), equation(fractions))


def test_the_number_of_parameters_is_the_one_of_the_paper():
    # OLMo-1B has 16 layers of width 2048: 165056 for the dynamic form with m = 4, RMSNorm of the fractions included.
    with torch.device("meta"):
        connection = FracConnections(norm="rms").connection(2048, sites(2)[0])
    own = sum(p.numel() for p in connection.parameters()) - sum(p.numel() for p in connection.norm.parameters())
    assert 2 * 16 * own == 165_056
    assert 2 * 16 * connection.static.numel() == 1_152  # of the static form


def test_it_starts_as_pre_norm_to_the_bit():
    sublayers = [FeedForward(8) for _ in range(4)]
    x = noise_like(torch.empty(3, 8))
    ours, theirs = (Stack(scheme, sublayers, 8)(x) for scheme in (FracConnections(), PreNorm()))
    assert torch.equal(ours, theirs)


def test_parts_of_the_stream_reach_each_other():
    connection = FracConnections(fractions=2).connection(8, sites(2)[0])
    with torch.no_grad():
        connection.static.add_(noise_like(connection.static))
    x = noise_like(torch.empty(1, 8))
    other = x.clone()
    other[:, 4:] += 1
    outcomes = [connection.write(connection.read(state)[1], torch.zeros(1, 8)) for state in (x, other)]
    assert (outcomes[0] - outcomes[1])[:, :4].abs().max() > 0.1


def test_mistakes_are_refused():
    with pytest.raises(UserError, match="fractions=1 is not allowed"):
        FracConnections(fractions=1)
    with pytest.raises(UserError, match="fractions=3 does not divide d_model=16; use 2 or 4"):
        FracConnections(fractions=3).connection(16, sites(2)[0])
