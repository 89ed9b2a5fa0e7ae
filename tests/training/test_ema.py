from __future__ import annotations

import pytest
import torch
from torch import nn

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.training.ema import AveragedWeights
from addnorm.training.interruption import Watch
from addnorm.training.load import load_model
from addnorm.training.optimizer import Optimizer
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder
from addnorm.training.trainer import Trainer


def trainer_of(config, folder):
    problem = tasks.prepare(config)
    folder.mkdir(exist_ok=True)
    return Trainer(config, problem, problem.build(), RunFolder(folder), Watch())


def weights(trainer):
    return torch.cat([parameter.detach().flatten().clone() for parameter in trainer.model.parameters()]).double()


def test_it_is_the_weighted_mean_of_the_weights_after_each_step(tiny, tmp_path):
    trainer = trainer_of(tiny(ema=0.8, learning_rate=1e-2, evaluations=1, signals=0, saves=0), tmp_path)
    seen = []
    trainer.train(lambda trainer: seen.append(weights(trainer)))
    shares = [0.2 * 0.8 ** (len(seen) - 1 - i) for i in range(len(seen))]
    expected = sum(share * one for share, one in zip(shares, seen, strict=True)) / sum(shares)
    with trainer.averaged():
        found = weights(trainer)
    # float32 sums of 20 terms; a mean that kept the initial weights would be off by 0.8^20 = 1 % of how far they moved.
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert (found - seen[-1]).abs().max() > 1e-3


def test_training_does_not_feel_it(tiny, tmp_path):
    ends = []
    for ema in (0.0, 0.9):
        torch.manual_seed(0)  # dropout
        trainer = trainer_of(tiny(ema=ema, dropout=0.1, evaluations=5, saves=2), tmp_path / str(ema))
        trainer.train(lambda trainer: None)
        ends.append(weights(trainer))
    assert torch.equal(ends[0], ends[1])


def test_evaluations_checkpoints_and_load_model_have_the_average(tiny, tmp_path):
    config = tiny(ema=0.9, learning_rate=3e-2, schedule="constant", evaluations=4, saves=4)
    train(config, tmp_path / "with")
    train(tiny(learning_rate=3e-2, schedule="constant", evaluations=4, saves=4), tmp_path / "without")
    losses, plain = (
        {row["step"]: row["loss"] for row in RunFolder(tmp_path / name).rows() if row["event"] == "validation"}
        for name in ("with", "without")
    )
    assert losses[0] == plain[0] and all(losses[step] != plain[step] for step in losses if step)
    best = min((step for step in losses if step), key=lambda step: losses[step])
    model, _, _ = load_model(tmp_path / "with")
    assert tasks.prepare(config).evaluate(model) == losses[best]  # stored and read back exactly


def test_an_average_of_constrained_weights_is_constrained(tiny, tmp_path):
    trainer = trainer_of(tiny(ema=0.9, scheme="n-gpt", learning_rate=3e-2, evaluations=1, saves=0), tmp_path)
    trainer.train(lambda trainer: None)
    weight = trainer.model.get_parameter("stack.blocks.0.sublayer.q_proj.weight")
    raw = weight.detach().clone()
    with trainer.averaged():
        assert not torch.equal(weight, raw)
        # nGPT holds each row at length one; float32.
        torch.testing.assert_close(weight.detach().norm(dim=1), torch.ones(len(weight)), atol=1e-5, rtol=1e-5)
    assert torch.equal(weight, raw)


def test_the_weights_come_back_after_an_error():
    model = nn.Linear(3, 3)
    average = AveragedWeights(Optimizer(model, RunConfig()), 0.9)
    with torch.no_grad():
        model.weight.fill_(5.0)
    with pytest.raises(KeyError), average.in_place(model):
        assert not (model.weight == 5.0).any()
        raise KeyError
    assert (model.weight == 5.0).all()


def test_without_it_a_checkpoint_is_as_large_as_before(tiny, tmp_path):
    trainer = trainer_of(tiny(evaluations=1), tmp_path)
    assert trainer.average.tensors() == {}
    assert trainer.guard.tensors() == {}
