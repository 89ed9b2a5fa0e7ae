"""From noise to pictures: the DDIM sampler, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.checks import check_at_least, check_count, check_finite
from addnorm.models.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of noisy pictures, times and labels: a prediction of the picture's shape."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """DDIM: from time 1 to time 0 in even steps, without fresh noise.

        x^, e^ = what the prediction at (z_t, t) says;    z_s = alpha_s x^ + sigma_s e^,    s = t - 1 / steps

    Song et al. 2020, arXiv:2010.02502, equation 12 with sigma = 0. With guidance g the prediction is
    `p(none) + g (p(class) - p(none))`, Ho and Salimans 2022, arXiv:2207.12598, whose w is g - 1: 1 is the model as
    trained, 0 ignores the class, and neither asks the model twice.

    Args:
        steps: evaluations of the model; twice as many with guidance.
        guidance: g.
        bound: the largest size of a number in the picture `x^`; infinity changes nothing.

    Raises:
        UserError: a number is out of range.
    """

    steps: int = 50
    guidance: float = 2.0
    bound: float = 1.0

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_at_least("guidance", self.guidance, 0)
        check_finite("guidance", self.guidance)
        check_at_least("bound", self.bound, 0)

    def __call__(
        self,
        model: Denoiser,
        noise: Noise,
        start: Float[Tensor, "batch *shape"],
        labels: Int[Tensor, "batch"],
        none: int,
    ) -> Float[Tensor, "batch *shape"]:
        """Pictures of the labels' classes.

        Args:
            model: predicts what `noise` asks for.
            noise: the forward process.
            start: standard normal noise.
            labels: of the pictures.
            none: the label that stands for no class.
        """
        z = clean = start
        for step in range(self.steps):
            times = torch.full((len(z),), 1 - step / self.steps, dtype=z.dtype, device=z.device)
            predicted = self.guided(model, z, times, labels, none)
            clean, rest = noise.parted(z, times, predicted)
            if clean.abs().amax() > self.bound:
                alpha, sigma = noise.rates(times, z)
                clean = clean.clamp(-self.bound, self.bound)
                rest = (z - alpha * clean) / sigma
            alpha, sigma = noise.rates(times - 1 / self.steps, z)
            z = alpha * clean + sigma * rest
        return clean

    def guided(
        self, model: Denoiser, z: Tensor, times: Float[Tensor, "batch"], labels: Int[Tensor, "batch"], none: int
    ) -> Tensor:
        """The prediction, pushed away from that without a class."""
        if self.guidance == 1:
            return model(z, times, labels)
        without = model(z, times, torch.full_like(labels, none))
        if self.guidance == 0:
            return without
        return without + self.guidance * (model(z, times, labels) - without)
