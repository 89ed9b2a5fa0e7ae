"""Deep delta learning: its equation, its eigenvalues, its traps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import UserError
from addnorm.schemes.deep_delta import DeepDelta, Gates
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from transcription import Parts, assert_agrees, norm


def equation(scale: float):
    def compute(parts: Parts) -> Tensor:
        x = parts.x
        for F, p in zip(parts.F, parts.at, strict=True):
            normed = norm(x, p, "norm")
            y = F(normed)
            k = y / (y.square().sum(-1, keepdim=True) + 1e-10) ** 0.5
            beta = 2 / (1 + torch.exp(-((normed * p["beta"]).sum(-1, keepdim=True) + p["beta_bias"])))
            v = scale / (1 + torch.exp(-((x * p["value"]).sum(-1, keepdim=True) + p["value_bias"])))
            x = x - beta * (k * x).sum(-1, keepdim=True) * k + beta * v * k
        return norm(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize(("kind", "scale"), [("rms", 4.0), ("layer", 1.5)])
def test_it_is_its_equation(kind, scale):
    assert_agrees(DeepDelta(norm=kind, value_scale=scale), equation(scale))


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.9])
def test_one_eigenvalue_is_one_less_beta_and_all_others_are_one(beta):
    connection = DeepDelta().connection(6, sites(2)[0]).double()
    y = noise_like(torch.empty(6, dtype=torch.float64))
    gate, value = torch.tensor(beta).double(), torch.tensor(0.0).double()
    operator = torch.autograd.functional.jacobian(
        lambda x: connection.write(Gates(x, gate, value), y), torch.zeros_like(y)
    )
    # 1e-9: k_eps shortens the direction by 1e-10 in 1.
    expected = torch.tensor([1 - beta, 1, 1, 1, 1, 1]).double()
    torch.testing.assert_close(torch.linalg.eigvalsh(operator), expected, rtol=0.0, atol=1e-9)


def test_at_beta_one_the_part_along_the_direction_is_replaced():
    connection = DeepDelta().connection(6, sites(2)[0]).double()
    x, y = (noise_like(torch.empty(6, dtype=torch.float64), seed) for seed in (1, 2))
    one, value = torch.tensor(1.0).double(), torch.tensor(2.5).double()
    after = connection.write(Gates(x, one, value), y)
    torch.testing.assert_close(after @ y / y.norm(), value, rtol=0.0, atol=1e-9)


def test_the_size_of_the_update_has_no_effect_and_none_at_all_keeps_the_stream():
    connection = DeepDelta().connection(6, sites(2)[0]).double()
    x, y = (noise_like(torch.empty(6, dtype=torch.float64), seed) for seed in (1, 2))
    _, skip = connection.read(x)
    torch.testing.assert_close(connection.write(skip, 100 * y), connection.write(skip, y), rtol=1e-8, atol=1e-8)
    assert torch.equal(connection.write(skip, 0 * y), x)


def test_it_starts_with_beta_near_its_initial_value():
    torch.manual_seed(0)
    for beta_init in (0.2, 1.0):
        connection = DeepDelta(beta_init=beta_init).connection(64, sites(2)[0])
        _, (_, beta, value) = connection.read(noise_like(torch.empty(100, 64)))
        # The weights' part of the logit has std 0.5.
        assert abs(beta.mean() - beta_init) < 0.1
        assert abs(value.mean() - 2.0) < 0.3


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong, text in (
        ({"beta_init": 0.0}, "beta_init=0.0 is not allowed"),
        ({"beta_init": 2.0}, "beta_init=2.0 is not allowed; use a number between 0 and 2"),
        ({"value_scale": -1.0}, "value_scale=-1.0 is not allowed"),
        ({"k_eps": 0.0}, "k_eps=0.0 is not allowed"),
    ):
        with pytest.raises(UserError, match=text):
            DeepDelta(**wrong)
