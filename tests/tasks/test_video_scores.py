"""MSE, PSNR and SSIM of frames against hand-computed values and scipy's Gaussian filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from addnorm.tasks.video.video_scores import decibels, nearness, similarities, squared_errors


def pictures(seed: int, count: int = 3, channels: int = 1, height: int = 20, width: int = 26) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)).double()


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al.'s formula with scipy's filter, whose border of 5 pixels is left out."""

    def smooth(z):
        return gaussian_filter(z, 1.5, truncate=3.5)[5:-5, 5:-5]

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y, both = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2, smooth(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + 0.0001) * (2 * both + 0.0009)
    return float((above / ((mean_x**2 + mean_y**2 + 0.0001) * (var_x + var_y + 0.0009))).mean())


def test_similarity_is_the_formula():
    x, y = pictures(1), 0.7 * pictures(1) + 0.3 * pictures(2)
    expected = [reference(a[0].numpy(), b[0].numpy()) for a, b in zip(x, y, strict=True)]
    assert 0.2 < expected[0] < 0.99
    assert similarities(x, y).tolist() == pytest.approx(expected, abs=1e-12)  # float64


def test_similarity_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pictures(3), 0.5 * pictures(3) + 0.5 * pictures(4)
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [metrics.structural_similarity(a[0].numpy(), b[0].numpy(), **options) for a, b in zip(x, y, strict=True)]
    assert similarities(x, y).tolist() == pytest.approx(expected, abs=1e-12)  # float64


def test_equal_frames_are_wholly_similar_and_flat_ones_compare_by_their_means():
    x = pictures(5)
    assert similarities(x, x).tolist() == pytest.approx([1.0] * 3, abs=1e-12)
    low, high = torch.full_like(x, 0.2), torch.full_like(x, 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    # A variance that is zero up to rounding stands beside C2 = 9e-4.
    assert similarities(low, high).tolist() == pytest.approx([expected] * 3, abs=1e-9)


def test_colours_are_averaged():
    x, y = pictures(6, channels=3), pictures(7, channels=3)
    each = torch.stack([similarities(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]).mean(0)
    torch.testing.assert_close(similarities(x, y), each, rtol=0, atol=1e-12)


def test_error_and_decibels_by_hand():
    true = torch.zeros(2, 1, 12, 12)
    predicted = true.clone()
    predicted[0] = 0.1  # 20 dB
    predicted[1, 0, 0, 0] = 1.0  # one pixel of 144
    errors = squared_errors(predicted, true)
    assert errors.tolist() == pytest.approx([0.01, 1 / 144], rel=1e-6)
    assert decibels(errors).tolist() == pytest.approx([20.0, 10 * math.log10(144)], rel=1e-6)


def test_a_perfect_frame_has_a_hundred_decibels_and_not_infinitely_many():
    assert decibels(torch.tensor([0.0, 1e-12])).tolist() == [100.0, 100.0]


def test_means_are_over_frames_and_not_over_all_pixels_of_all_frames():
    true = torch.zeros(1, 2, 1, 12, 12)
    predicted = torch.stack([torch.full((1, 12, 12), 0.1), torch.full((1, 12, 12), 0.01)])[None]
    found = nearness(predicted, true)
    assert found.psnr == pytest.approx(30.0, abs=1e-4)  # of 20 and 40; float32 inputs
    assert found.mse == pytest.approx((0.01 + 0.0001) / 2, rel=1e-5)
