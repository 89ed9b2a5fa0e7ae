"""How much noise a picture has at each time of a diffusion, and what is predicted of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from addnorm.errors import unknown

if TYPE_CHECKING:
    from jaxtyping import Float

LOG_SNR = (-10.0, 13.3)
"""Log signal-to-noise ratios at the end and at the start; at 13.3 the noise is a sixth of half an 8-bit grey level."""
BETAS = (0.1, 20.0)
"""Noise rates of the linear schedule: 1000 steps of 1e-4 to 0.02, in continuous time."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The forward process: `z_t = alpha_t x + sigma_t e`, `e ~ N(0, 1)`, `alpha_t^2 + sigma_t^2 = 1`, t from 0 to 1.

        lambda_t = ln(alpha_t^2 / sigma_t^2);    alpha_t^2 = sigmoid(lambda_t),  sigma_t^2 = sigmoid(-lambda_t)
        cosine:  lambda_t = -2 ln tan(a t + b)            which is alpha_t = cos(a t + b)
        linear:  alpha_u^2 = exp(-b_0 u - (b_1 - b_0) u^2 / 2),  u from near 0 to 1

    Ho et al. 2020, arXiv:2006.11239 (linear); Nichol and Dhariwal 2021, arXiv:2102.09672 (cosine), cut to a range of
    lambda as in Salimans and Ho 2022, arXiv:2202.00512, whose v-prediction is the default. Of a prediction p:

        epsilon:  e^ = p,                            x^ = (z - sigma e^) / alpha
        v:        p = alpha e - sigma x,             x^ = alpha z - sigma p,    e^ = sigma z + alpha p

    Args:
        schedule: "cosine" or "linear".
        predict: "v" or "epsilon".

    Raises:
        UserError: one of them is unknown.
    """

    schedule: Literal["cosine", "linear"] = "cosine"
    predict: Literal["v", "epsilon"] = "v"

    def __post_init__(self) -> None:
        for name, allowed in (("schedule", ("cosine", "linear")), ("predict", ("v", "epsilon"))):
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)

    def log_snr(self, times: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Lambda, which falls with time."""
        if self.schedule == "cosine":
            low, high = _angles()
            return -2 * (low + (high - low) * times).tan().log()
        used = _linear_start() + (1 - _linear_start()) * times
        spent = BETAS[0] * used + (BETAS[1] - BETAS[0]) * used**2 / 2
        return -spent - (-torch.expm1(-spent)).log()

    def time(self, log_snr: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """When lambda has a value."""
        if self.schedule == "cosine":
            low, high = _angles()
            return ((-log_snr / 2).exp().atan() - low) / (high - low)
        spent = torch.nn.functional.softplus(-log_snr)  # -ln alpha^2
        slope = BETAS[1] - BETAS[0]
        used = 2 * spent / (BETAS[0] + (BETAS[0] ** 2 + 2 * slope * spent).sqrt())
        return (used - _linear_start()) / (1 - _linear_start())

    def spread(self, places: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Times for places from 0 to 1: below a half even in time, above it even in lambda.

        Even times seldom come to little noise, which is where most bits of a picture lie: on Fashion-MNIST's pixels two
        thirds of them at a lambda above 7.5, at which every 70th time is.
        """
        low, high = self.range()
        even_in_lambda = self.time((low + (high - low) * (2 * places - 1)).double()).to(places.dtype)
        return torch.where(places < 0.5, 2 * places, even_in_lambda).clamp(0, 1)

    def range(self) -> tuple[float, float]:
        """The least and the largest lambda: at time 1 and at time 0."""
        ends = self.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64))
        return float(ends[0]), float(ends[1])

    def rates(self, times: Float[Tensor, "batch"], like: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, shaped to be multiplied with pictures."""
        log_snr = self.log_snr(times).reshape(-1, *[1] * (like.dim() - 1))
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()

    def noised(self, clean: Tensor, times: Float[Tensor, "batch"], noise: Tensor) -> Tensor:
        """The pictures with the noise of their times."""
        alpha, sigma = self.rates(times, clean)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, times: Float[Tensor, "batch"], noise: Tensor) -> Tensor:
        """What a model shall predict."""
        if self.predict == "epsilon":
            return noise
        alpha, sigma = self.rates(times, clean)
        return alpha * noise - sigma * clean

    def parted(self, noisy: Tensor, times: Float[Tensor, "batch"], predicted: Tensor) -> tuple[Tensor, Tensor]:
        """The picture and the noise that a prediction says a noisy picture is made of."""
        alpha, sigma = self.rates(times, noisy)
        if self.predict == "epsilon":
            return (noisy - sigma * predicted) / alpha, predicted
        return alpha * noisy - sigma * predicted, sigma * noisy + alpha * predicted

    def prediction(self, noisy: Tensor, times: Float[Tensor, "batch"], clean: Tensor) -> Tensor:
        """The prediction that says that a noisy picture was this one: `parted` backwards."""
        alpha, sigma = self.rates(times, noisy)
        if self.predict == "epsilon":
            return (noisy - alpha * clean) / sigma
        return (alpha * noisy - clean) / sigma


def _angles() -> tuple[float, float]:
    """Where the cosine begins and ends, for the range of lambda."""
    return math.atan(math.exp(-LOG_SNR[1] / 2)), math.atan(math.exp(-LOG_SNR[0] / 2))


def _linear_start() -> float:
    """Where the linear schedule begins: at `LOG_SNR`'s end; there the spent noise is about `b_0 u`."""
    return math.log1p(math.exp(-LOG_SNR[1])) / BETAS[0]
