"""DDIM with a perfect denoiser gives back the distribution; guidance of 0 and 1 are what they say."""

from __future__ import annotations

import pytest
import torch

from addnorm.errors import UserError
from addnorm.models.ddim import Sampler
from addnorm.models.noise import Noise

MEAN, SPREAD = 0.4, 0.3
KINDS = [Noise(schedule=schedule, predict=predict) for schedule in ("cosine", "linear") for predict in ("v", "epsilon")]


def perfect(noise: Noise):
    """What is best predicted when each number is `N(MEAN, SPREAD^2)`: `E[target | z]`."""

    def predict(z, times, labels):
        alpha, sigma = noise.rates(times, z)
        clean = MEAN + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (z - alpha * MEAN)
        return noise.target(clean, times, (z - alpha * clean) / sigma)

    return predict


@pytest.mark.parametrize("noise", KINDS)
def test_the_true_denoiser_of_a_gaussian_gives_the_gaussian(noise):
    start = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.zeros(len(start), dtype=torch.long)
    drawn = Sampler(steps=400, guidance=1.0, bound=float("inf"))(perfect(noise), noise, start, labels, 1)
    # The map is affine in the start, whose own moments differ from 0 and 1 by 0.01; 400 steps leave less than 0.01.
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert drawn.std().item() == pytest.approx(SPREAD, abs=0.01)
    # No fresh noise: the order of the starts is the order of what they became.
    assert torch.equal(drawn.flatten().argsort(), start.flatten().argsort())


def test_more_steps_come_nearer():
    noise = KINDS[0]
    start = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.zeros(len(start), dtype=torch.long)
    errors = []
    for steps in (4, 16, 64):
        drawn = Sampler(steps=steps, guidance=1.0, bound=float("inf"))(perfect(noise), noise, start, labels, 1)
        errors.append(abs(drawn.std().item() / start.std().item() - SPREAD))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def by_label(z, times, labels):
    return z * (1 + labels[:, None])


def test_guidance_of_one_is_the_model_and_of_zero_the_model_without_a_class():
    z, times, labels = torch.randn(6, 3), torch.full((6,), 0.5), torch.arange(6) % 3
    none = torch.full((6,), 3)
    assert torch.equal(Sampler(guidance=1.0).guided(by_label, z, times, labels, 3), by_label(z, times, labels))
    assert torch.equal(Sampler(guidance=0.0).guided(by_label, z, times, labels, 3), by_label(z, times, none))
    without, given = by_label(z, times, none), by_label(z, times, labels)
    found = Sampler(guidance=2.5).guided(by_label, z, times, labels, 3)
    torch.testing.assert_close(found, without + 2.5 * (given - without))


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_those_two_ask_the_model_once_a_step(guidance):
    asked = []

    def model(z, times, labels):
        asked.append(times)
        return torch.zeros_like(z)

    Sampler(steps=7, guidance=guidance)(model, Noise(), torch.randn(2, 3), torch.tensor([0, 1]), 2)
    assert len(asked) == 7


def test_what_is_drawn_stays_within_the_bound():
    drawn = Sampler(steps=5, guidance=1.0)(
        lambda z, times, labels: 5 * torch.ones_like(z), Noise(), torch.randn(4, 3), torch.zeros(4, dtype=torch.long), 1
    )
    assert drawn.abs().max() <= 1


def test_numbers_out_of_range_are_refused():
    with pytest.raises(UserError, match="steps=0"):
        Sampler(steps=0)
    with pytest.raises(UserError, match="guidance=-1"):
        Sampler(guidance=-1)
