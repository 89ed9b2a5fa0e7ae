from __future__ import annotations

import numpy as np
import pytest
import torch

from addnorm.data.pictures import images
from addnorm.tasks.pictures.frechet import frechet, judge_of


def samples(seed: int, count: int = 4000) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_closed_form_of_scipy_for_gaussians():
    linalg = pytest.importorskip("scipy.linalg")
    one = samples(0) @ torch.tensor([[1.0, 0.3, 0], [0, 2, 0.5], [0, 0, 0.7]], dtype=torch.float64)
    other = samples(1) @ torch.tensor([[2.0, 0, 0.1], [0.4, 1, 0], [0, 0, 1.5]], dtype=torch.float64) + 0.5
    covs = [np.cov(x.numpy(), rowvar=False) for x in (one, other)]
    root = linalg.sqrtm(covs[0] @ covs[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum().item() + np.trace(covs[0] + covs[1] - 2 * root)
    assert frechet(one, other) == pytest.approx(expected, rel=1e-9)


def test_of_a_set_to_itself_it_is_zero_and_it_has_no_direction():
    one, other = samples(0), 2 * samples(1) + 1
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet(one, other) == pytest.approx(frechet(other, one))
    assert frechet(one, other) == pytest.approx(3 + 3, rel=0.05)  # (2 - 1)^2 and 1^2 in three dimensions


def test_it_finds_noise_and_missing_classes_in_digits():
    splits = images.load("digits")
    judge = judge_of(splits)
    assert judge.accuracy > 90
    train, test = torch.from_numpy(splits.train.pixels.copy()), torch.from_numpy(splits.test.pixels.copy())
    truth = judge.features(test)
    floor = judge.distance_to(train, truth)
    noisy = (train.float() + 60 * torch.randn(train.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255)
    assert judge.distance_to(noisy.to(torch.uint8), truth) > 2 * floor  # 2.5 here; the classifier sees through noise
    assert judge.distance_to(train[splits.train.labels < 3], truth) > 10 * floor
