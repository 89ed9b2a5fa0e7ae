from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from addnorm import tasks
from addnorm.errors import UserError
from addnorm.layers.cross_entropy import IGNORED, count, cross_entropy
from addnorm.training.accumulation import BatchGradient, first_part
from addnorm.training.optimizer import Optimizer
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder


def gradient(config, problem, batch, model):
    """The loss and the gradient of one batch, in float64, where rounding hides nothing."""
    model = model.double()
    optimizer = Optimizer(model, config)
    loss = BatchGradient(config, problem).backward(model, batch)
    return loss, torch.cat([buffer.gradient for buffer in optimizer.buffers.values()])


class Padded:
    """Rows of one real target and of eight, as a task with padding has them."""

    def targets(self, batch):
        return int(count(batch[1]))

    def loss(self, model, batch):
        # cross_entropy sums in float32: as float64, so that only the weighting can make a difference.
        inputs, targets = batch
        logits = model(inputs)
        real = targets != IGNORED
        return nn.functional.cross_entropy(logits[real], targets[real])


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_of_a_padded_batch_have_the_gradient_of_the_whole(tiny, parts):
    torch.manual_seed(0)
    inputs, targets = torch.randint(0, 11, (8, 8)), torch.randint(0, 11, (8, 8))
    for row in range(8):
        targets[row, 1 if row % 3 else 8 :] = IGNORED
    config = tiny(batch_size=8)
    model = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11))
    whole, expected = gradient(config, Padded(), (inputs, targets), model)
    model.zero_grad()
    loss, found = gradient(replace(config, accumulate=parts), Padded(), (inputs, targets), model)
    assert loss == pytest.approx(whole, rel=1e-12)  # float64
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_a_run_in_parts_is_the_run_with_whole_batches(tiny, tmp_path):
    losses = []
    for parts in (1, 3, 4):
        train(tiny(accumulate=parts), tmp_path / str(parts))
        rows = RunFolder(tmp_path / str(parts)).rows()
        losses.append([row["loss"] for row in rows if row["event"] in ("train", "validation")])
        state_norms = [row["state_grad_norm"] for row in rows if row["event"] == "signal"][0]
        losses[-1] += state_norms  # the probe sums over the parts
    # float32 sums in another order, over 20 steps of Adam, which divides a small gradient by its own size.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1] != losses[0]


def test_a_part_is_what_goes_through_the_model_at_once(tiny, tmp_path):
    problem = tasks.prepare(tiny())
    assert first_part(problem.train_batch(0), tiny(accumulate=4))[0].shape == (1, 16)
    bytes_kept = {}
    for parts in (1, 4):
        train(tiny(accumulate=parts), tmp_path / str(parts))
        bytes_kept[parts] = RunFolder(tmp_path / str(parts)).read("run.json")["activation_bytes"]
    # Not exactly a quarter: what has no batch dimension (position tables, normed weights) is kept whole.
    assert bytes_kept[4] < 0.4 * bytes_kept[1]


def test_there_are_no_empty_parts(tiny):
    with pytest.raises(UserError, match=r"accumulate=5 is not allowed; use batch_size=4 or less"):
        tiny(accumulate=5)
    with pytest.raises(UserError, match="accumulate=0"):
        tiny(accumulate=0)


def test_a_batch_of_padding_alone_changes_nothing():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 3), IGNORED), 0.1)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None and not logits.grad.any()
