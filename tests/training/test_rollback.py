from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
import torch

from addnorm import tasks
from addnorm.probes.trainability import assess
from addnorm.training.interruption import Watch
from addnorm.training.rollback import EVERY, LEAST, SPREAD, WINDOW, SpikeGuard
from addnorm.training.run_folder import RunFolder
from addnorm.training.trainer import Trainer

STEPS = 120
FIELDS = {"tokens": STEPS * 64, "learning_rate": 5e-3, "evaluations": 4, "signals": 0, "saves": 0, "warm_up": 0.1}


@pytest.fixture
def trainer_of(tiny, tmp_path):
    def make(**changes):
        config = tiny(**(FIELDS | changes))
        problem = tasks.prepare(config)
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return Trainer(config, problem, problem.build(), RunFolder(folder), Watch())

    return make


def poison_batches(trainer, steps):
    """Batches of bytes that the text never has, so that the model is sure and wrong."""
    clean = trainer.task.train_batch

    def poisoned(step):
        inputs, targets = clean(step)
        return (inputs, torch.full_like(targets, 255)) if step in steps else (inputs, targets)

    trainer.task.train_batch = poisoned


def wreck_updates(trainer, steps):
    """Updates after which the weights are useless, though the loss that led to them was as ever."""
    step_of = trainer.optimizer.step

    def wrecking(learning_rate):
        step_of(learning_rate)
        if trainer.at.step in steps:
            for buffer in trainer.optimizer.buffers.values():
                # By more, some processors' sums of attention overflow in the steps after, and others' do not.
                buffer.values.mul_(-10.0)
                buffer.moments["exp_avg"].fill_(1e1)

    trainer.optimizer.step = wrecking


def rows(trainer, event):
    return [row for row in trainer.run.rows() if row["event"] == event]


def last_loss(trainer):
    return rows(trainer, "validation")[-1]["loss"]


def test_a_poisoned_batch_leaves_no_trace_in_the_weights(trainer_of):
    trainer = trainer_of(spike=8.0)
    poison_batches(trainer, {70})
    seen = {}

    def remember(trainer):
        seen[trainer.at.step] = {name: tensor.clone() for name, tensor in trainer._live().items()}

    assert trainer.train(remember) == "finished"
    (row,) = rows(trainer, "rollback")
    assert row["step"] == 71 and row["loss"] > row["limit"]
    assert row["to_step"] == 70 // EVERY * EVERY == 50
    for name, tensor in seen[50].items():
        assert torch.equal(seen[71][name], tensor), name
    assert not torch.equal(seen[72]["values/matrix"], seen[71]["values/matrix"])
    assert trainer.at.step == STEPS  # the run goes on behind the poison: no batch comes twice


def test_a_wrecked_model_recovers_with_it_and_not_without_it(trainer_of):
    losses = {}
    for spike in (0.0, 8.0):
        trainer = trainer_of(spike=spike)
        wreck_updates(trainer, {70})
        assert trainer.train(lambda trainer: None) == "finished"
        losses[spike] = last_loss(trainer)
        assert len(rows(trainer, "rollback")) == (1 if spike else 0)
    assert losses[8.0] < trainer.task.chance_loss < losses[0.0]


def test_a_clean_run_never_goes_back_and_is_the_same_with_and_without(trainer_of):
    ends = []
    for spike in (0.0, 8.0):
        trainer = trainer_of(spike=spike)
        trainer.train(lambda trainer: None)
        assert not rows(trainer, "rollback")
        ends.append(torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()]))
    assert torch.equal(*ends)


def test_more_spikes_than_allowed_are_a_divergence(trainer_of):
    trainer = trainer_of(spike=8.0, rollbacks=2)
    poison_batches(trainer, set(range(60, STEPS)))
    assert trainer.train(lambda trainer: None) == "diverged"
    assert [row["step"] for row in rows(trainer, "rollback")] == [61, 62, 63]
    assert trainer.at.step == 63
    trainer.note("end", status="diverged")
    found = assess(trainer.run.rows(), trainer.task.chance_loss)
    assert found.kind == "diverged" and found.figure.startswith("went back 3 times after loss spikes")


def test_steps_without_a_gradient_that_would_end_the_run_go_back_too(trainer_of):
    trainer = trainer_of(spike=8.0, max_bad_steps=2)
    step_of = trainer.optimizer.step

    def breaking(learning_rate):
        step_of(learning_rate)
        if trainer.at.step == 40:
            trainer.optimizer.buffers["matrix"].values.fill_(math.nan)

    trainer.optimizer.step = breaking
    assert trainer.train(lambda trainer: None) == "finished"
    assert [row["step"] for row in rows(trainer, "skipped")] == [42, 43]
    assert [(row["step"], row["to_step"]) for row in rows(trainer, "rollback")] == [(43, 25)]
    assert last_loss(trainer) < trainer.task.chance_loss


def test_the_limit_is_so_many_standard_deviations_above_the_mean_of_the_window():
    guard = SpikeGuard(3.0, dict)
    for i in range(LEAST - 1):
        guard.passed(i, 2.0)
    assert guard.limit() == math.inf
    guard.passed(LEAST, 2.0)
    assert guard.limit() == pytest.approx(2.0 + 3 * SPREAD * 2.0)
    for i in range(WINDOW):
        guard.passed(LEAST + i, 3.0 if i % 2 else 5.0)
    assert guard.limit() == pytest.approx(4.0 + 3 * 1.0)


def test_the_statistics_of_a_batch_norm_go_back_too(trainer_of):
    trainer = trainer_of(spike=8.0, scheme="post-norm(norm=batch)")
    names = [name for name in trainer._live() if name.startswith("model/")]
    assert any("mean" in name for name in names)
    trainer.guard.passed(0, 1.0)
    before = [buffer.clone() for buffer in trainer.model.buffers()]
    trainer.gradient.backward(trainer.model.train(), trainer.task.train_batch(0))
    assert not all(torch.equal(now, old) for now, old in zip(trainer.model.buffers(), before, strict=True))
    trainer.guard.go_back_()
    assert all(torch.equal(now, old) for now, old in zip(trainer.model.buffers(), before, strict=True))
