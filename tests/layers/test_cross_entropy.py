from __future__ import annotations

import math

import pytest
import torch

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.layers.cross_entropy import IGNORED, count, cross_entropy

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [9.0, -9.0, 0.0]])


def nats(row, target):
    return math.log(sum(math.exp(x) for x in row)) - row[target]


def test_it_is_the_mean_over_real_targets():
    targets = torch.tensor([1, 2, IGNORED])
    expected = (nats(LOGITS[0].tolist(), 1) + nats(LOGITS[1].tolist(), 2)) / 2
    assert cross_entropy(LOGITS, targets).item() == pytest.approx(expected, rel=1e-6)  # float32
    assert count(targets) == 2


def test_more_padding_changes_nothing():
    more = torch.cat([LOGITS[None], torch.randn(1, 3, 3)])
    targets = torch.tensor([[1, 2, 0], [IGNORED] * 3])
    assert torch.equal(cross_entropy(more, targets, 0.1), cross_entropy(LOGITS, targets[0], 0.1))


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_is_the_cross_entropy_to_the_smoothed_target(smoothing):
    row = LOGITS[0].tolist()
    shares = [smoothing / 3 + (1 - smoothing) * (c == 2) for c in range(3)]
    expected = sum(share * nats(row, c) for c, share in enumerate(shares))
    assert cross_entropy(LOGITS[:1], torch.tensor([2]), smoothing).item() == pytest.approx(expected, rel=1e-6)


def test_smoothed_it_is_lowest_at_the_smoothed_target_and_not_at_certainty():
    best = torch.tensor([[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]]).log()
    sure = torch.tensor([[50.0, 0.0, 0.0]])
    target = torch.tensor([0])
    assert cross_entropy(best, target, 0.1) < cross_entropy(sure, target, 0.1)
    assert cross_entropy(best, target) > cross_entropy(sure, target)


def test_bfloat16_logits_are_summed_in_float32():
    assert cross_entropy(LOGITS.bfloat16(), torch.tensor([0, 1, 2])).dtype == torch.float32


def test_training_is_smoothed_and_validation_is_not():
    plain, smooth = (
        tasks.prepare(RunConfig(label_smoothing=share, d_model=16, num_layers=1, evaluation_tokens=256))
        for share in (0.0, 0.2)
    )
    model = plain.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # surer than a fresh model, whose guess is nearly even: smoothing hardly changes its loss
        batch = plain.train_batch(0)
        assert abs(smooth.loss(model, batch) - plain.loss(model, batch)) > 0.01
    assert smooth.evaluate(model) == plain.evaluate(model)
