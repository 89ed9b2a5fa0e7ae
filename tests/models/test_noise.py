"""The forward process has the moments it states, and what is predicted says what was mixed."""

from __future__ import annotations

import math

import pytest
import torch

from addnorm.errors import UserError
from addnorm.models.noise import Noise

KINDS = [Noise(schedule=schedule, predict=predict) for schedule in ("cosine", "linear") for predict in ("v", "epsilon")]
TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)


@pytest.mark.parametrize("noise", KINDS)
def test_the_forward_process_keeps_the_variance_and_moves_the_mean(noise):
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((200_000, 1), 0.7, dtype=torch.float64)
    for time in (0.0, 0.2, 0.5, 0.9, 1.0):
        times = torch.full((len(clean),), time, dtype=torch.float64)
        alpha, sigma = (float(rate[0]) for rate in noise.rates(times[:1], clean[:1]))
        assert alpha**2 + sigma**2 == pytest.approx(1)
        z = noise.noised(clean, times, torch.randn(clean.shape, generator=generator, dtype=torch.float64))
        # Five standard errors of a mean and of a standard deviation over 200,000 draws.
        assert z.mean().item() == pytest.approx(0.7 * alpha, abs=5 * sigma / 200_000**0.5)
        assert z.std().item() == pytest.approx(sigma, rel=5 / 400_000**0.5)


@pytest.mark.parametrize("noise", KINDS)
def test_the_signal_to_noise_ratio_falls_from_the_start_to_the_end(noise):
    ratios = noise.log_snr(TIMES)
    assert (ratios.diff() < 0).all()
    low, high = noise.range()
    assert high == pytest.approx(13.3, abs=1e-2)  # the linear schedule's start is approximate
    assert low < -9.9


@pytest.mark.parametrize("noise", KINDS)
def test_a_ratio_comes_at_one_time_and_that_is_found(noise):
    torch.testing.assert_close(noise.time(noise.log_snr(TIMES)), TIMES, rtol=0, atol=1e-7)  # cancellation near 0


def test_the_cosine_schedule_is_a_cosine_and_the_linear_one_is_that_of_ddpm():
    alpha, _ = Noise(schedule="cosine").rates(TIMES, TIMES)
    low, high = math.atan(math.exp(-13.3 / 2)), math.atan(math.exp(5))
    torch.testing.assert_close(alpha, (low + (high - low) * TIMES).cos())
    # DDPM's product over 1000 steps of 1 - beta; its sum is our integral to the first order in 1e-3.
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha, _ = Noise(schedule="linear").rates(torch.tensor([0.5], dtype=torch.float64), TIMES[:1])
    assert alpha.item() == pytest.approx((1 - betas[:500]).prod().sqrt().item(), rel=0.01)


@pytest.mark.parametrize("noise", KINDS)
def test_the_target_parts_a_noisy_picture_into_picture_and_noise(noise):
    clean, drawn = torch.randn(2, 50, 4, dtype=torch.float64)
    times = torch.linspace(0.02, 0.95, 50, dtype=torch.float64)
    found = noise.parted(noise.noised(clean, times, drawn), times, noise.target(clean, times, drawn))
    torch.testing.assert_close(found[0], clean)
    torch.testing.assert_close(found[1], drawn)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        Noise(schedule="cosin")
