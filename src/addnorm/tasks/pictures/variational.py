"""The variational bound of a diffusion, in bits per dimension."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.data.pictures.image_splits import Images
from addnorm.layers.initialise import generator_for
from addnorm.models.noise import Noise
from addnorm.tasks.pictures.image_batches import numbers

if TYPE_CHECKING:
    from jaxtyping import Float

DRAWS = 4
"""Noise levels at which each picture is looked at."""
BATCH = 250
READ = 100
"""Pictures over which the last term is taken; it does not depend on the model, and little on the picture."""


def bits_per_dimension(model: nn.Module, noise: Noise, images: Images) -> float:
    """`-ln p(x | class) <= prior + diffusion + reading`, in bits a pixel and channel.

        prior     = KL(q(z_1 | x) || N(0, 1))
        diffusion = (lambda_0 - lambda_1) / 2 * E ||e - e^(z_t, t)||^2,   lambda uniform from lambda_1 to lambda_0
        reading   = -E ln p(x | z_0),   p(level | z_0) = softmax over levels of -(z_0 - alpha_0 level)^2 / (2 sigma_0^2)

    Kingma et al. 2021, arXiv:2107.00630, in continuous time: the signal-to-noise ratio falls from exp(lambda_0) to
    exp(lambda_1). The expectation is over a few stratified noise levels a picture, with a fixed seed.

    Args:
        model: of noisy pictures, times and labels; in evaluation.
        noise: the forward process.
        images: 8-bit pixels and their labels.
    """
    clean, labels = numbers(images.pixels), torch.from_numpy(images.labels.copy())
    low, high = noise.range()
    generator = generator_for(0, "bound")
    total = 0.0
    for _ in range(DRAWS):
        places = (torch.randperm(len(clean), generator=generator) + torch.rand(len(clean), generator=generator)) / len(
            clean
        )
        times = noise.time((low + (high - low) * places).double()).float()
        for part in zip(clean.split(BATCH), labels.split(BATCH), times.split(BATCH), strict=True):
            total += _noise_error(model, noise, part, generator) * len(part[0])
    diffusion = (high - low) / 2 * total / (DRAWS * len(clean))
    return (_prior(noise, clean) + diffusion + _reading(noise, clean[:READ], generator)) / math.log(2)


def _noise_error(
    model: nn.Module, noise: Noise, part: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> float:
    clean, labels, times = part
    drawn = torch.randn(clean.shape, generator=generator)
    noisy = noise.noised(clean, times, drawn)
    _, found = noise.parted(noisy, times, model(noisy, times, labels).float())
    return (found - drawn).square().mean().item()


def _prior(noise: Noise, clean: Float[Tensor, "batch *shape"]) -> float:
    alpha, sigma = (float(rate) for rate in noise.rates(torch.ones(1), torch.zeros(1)))
    return 0.5 * (alpha**2 * clean.square().mean().item() + sigma**2 - 1) - math.log(sigma)


def _reading(noise: Noise, clean: Float[Tensor, "batch *shape"], generator: torch.Generator) -> float:
    alpha, sigma = noise.rates(torch.zeros(1, dtype=torch.float64), torch.zeros(1))
    values, levels = clean.flatten().double(), torch.arange(256).double() / 127.5 - 1
    total = 0.0
    for part in values.split(20_000):  # 256 scores a pixel
        seen = alpha * part + sigma * torch.randn(part.shape, generator=generator, dtype=torch.float64)
        scores = -((seen[:, None] - alpha * levels) ** 2) / (2 * sigma**2)
        true = ((part + 1) * 127.5).round().long()
        total -= scores.log_softmax(-1).gather(1, true[:, None]).sum().item()
    return total / values.numel()
