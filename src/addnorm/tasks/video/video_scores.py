"""How near predicted frames are to the true ones: squared error, peak signal to noise, structural similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.task import Score

if TYPE_CHECKING:
    from jaxtyping import Float

WINDOW, SIGMA = 11, 1.5
"""Of the Gaussian that SSIM weighs a neighbourhood with."""
K1, K2 = 0.01, 0.03
MOST_DB = 100.0
"""Of a frame without any error, whose PSNR would be infinite."""


@dataclass(frozen=True, kw_only=True)
class FrameNearness:
    """Means over frames; pixels from 0 to 1.

    Args:
        mse: squared error of a pixel.
        psnr: in decibels.
        ssim: 1 is equal.
    """

    mse: float
    psnr: float
    ssim: float


def nearness(predicted: Float[Tensor, "*n channels height width"], true: Tensor) -> FrameNearness:
    """All three, each the mean over frames."""
    return mean_of([each_frame(predicted, true)])


def each_frame(predicted: Float[Tensor, "*n channels height width"], true: Tensor) -> Float[Tensor, "3 frames"]:
    """All three of every frame."""
    predicted, true = (frames.flatten(0, -4).double() for frames in (predicted, true))
    errors = squared_errors(predicted, true)
    return torch.stack([errors, decibels(errors), similarities(predicted, true)])


def mean_of(parts: list[Float[Tensor, "3 frames"]]) -> FrameNearness:
    """The mean over the frames of all parts."""
    mse, psnr, ssim = torch.cat(parts, dim=1).mean(1).tolist()
    return FrameNearness(mse=mse, psnr=psnr, ssim=ssim)


def squared_errors(predicted: Float[Tensor, "n channels height width"], true: Tensor) -> Float[Tensor, "n"]:
    """`mean (predicted - true)^2` over the pixels of each frame."""
    return (predicted - true).square().flatten(1).mean(1)


def decibels(errors: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """PSNR of each frame: `10 log10(1 / mse)`, at most 100."""
    return (-10 * errors.clamp(min=10 ** (-MOST_DB / 10)).log10()).clamp(max=MOST_DB)


def similarities(x: Float[Tensor, "n channels height width"], y: Tensor) -> Float[Tensor, "n"]:
    """SSIM of each frame, the mean over the places where the window lies within it.

        SSIM = (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)),   C_i = K_i^2

    Means, variances and the covariance are weighted by a Gaussian of 11 x 11 pixels, sigma 1.5; K1 = 0.01, K2 = 0.03,
    pixels from 0 to 1. Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    mean_x, mean_y = _weighted(x), _weighted(y)
    variance_x, variance_y = _weighted(x * x) - mean_x**2, _weighted(y * y) - mean_y**2
    covariance = _weighted(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + K1**2) * (2 * covariance + K2**2)
    below = (mean_x**2 + mean_y**2 + K1**2) * (variance_x + variance_y + K2**2)
    return (above / below).flatten(1).mean(1)


def score_rows(
    model: FrameNearness, trivial: FrameNearness | None, suffix: str, trivial_name: str, note: str
) -> list[Score]:
    """The three as scores, each beside the trivial answer's; the note goes with the error."""
    rows = (("MSE", "mse", "lower"), ("PSNR", "psnr", "higher"), ("SSIM", "ssim", "higher"))
    return [
        Score(
            name=f"{name}{suffix}",
            value=getattr(model, field),
            better=better,  # type: ignore[arg-type]
            baseline=None if trivial is None else getattr(trivial, field),
            baseline_name="" if trivial is None else trivial_name,
            note=note if field == "mse" else "",
            lowest={"mse": 0.0, "psnr": None, "ssim": -1.0}[field],
            highest=1.0 if field == "ssim" else None,
        )
        for name, field, better in rows
    ]


def _weighted(x: Tensor) -> Tensor:
    """The Gaussian mean around each place, down and then across."""
    distance = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    weights = (-(distance**2) / (2 * SIGMA**2)).exp()
    weights = weights / weights.sum()
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes[:, 0].unflatten(0, x.shape[:2])
