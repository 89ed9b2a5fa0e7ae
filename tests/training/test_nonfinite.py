from __future__ import annotations

import math

import pytest
import torch

from addnorm import tasks
from addnorm.probes.nonfinite import origin
from addnorm.probes.trainability import assess
from addnorm.training.interruption import Watch
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder
from addnorm.training.trainer import NotFiniteWarning, Trainer


@pytest.fixture
def trainer_of(tmp_path):
    def make(config):
        task = tasks.prepare(config)
        return Trainer(config, task, task.build(), RunFolder(tmp_path), Watch())

    return make


def poison(trainer, site, steps):
    """Make the gradient of what one sublayer writes infinite in the given steps."""

    def hook(module, arguments, output):
        if module.training and trainer.at.step in steps and output.requires_grad:
            output.register_hook(lambda gradient: torch.full_like(gradient, math.inf))

    trainer.stack.blocks[site].get_submodule("sublayer").register_forward_hook(hook)


def test_a_skipped_step_leaves_running_statistics_as_they_were(tiny, trainer_of):
    trainer = trainer_of(tiny(scheme="post-norm(norm=batch)", num_layers=2, signals=0, evaluations=1, saves=2))
    model_loss, seen = trainer.task.loss, {}

    def poisoned(model, batch):
        if trainer.at.step in (4, 9) and model.training:
            with torch.no_grad():
                handle = model.stack.register_forward_pre_hook(lambda module, given: (given[0] * math.nan, *given[1:]))
                try:
                    return model_loss(model, batch)
                finally:
                    handle.remove()
        return model_loss(model, batch)

    def loss(model, batch):
        found = poisoned(model, batch)
        return found if found.requires_grad else found.requires_grad_()

    def remember(trainer):
        seen[trainer.at.step] = {name: tensor.clone() for name, tensor in trainer.model.named_buffers()}

    trainer.task.loss = loss
    assert trainer.train(remember) == "finished"
    assert [row["step"] for row in skipped(trainer)] == [5, 10]
    assert any("running_mean" in name for name in seen[4])
    for name, before in seen[4].items():
        assert torch.equal(seen[5][name], before), name
    assert any(not torch.equal(seen[6][name], before) for name, before in seen[5].items())
    assert math.isfinite(trainer.at.validation_loss)
    kept = trainer.run.checkpoints.load("last")
    assert kept is not None and all(tensor.isfinite().all() for tensor in kept[0].weights.values())


def test_weights_that_are_not_finite_are_never_written(tiny, trainer_of):
    trainer = trainer_of(tiny(signals=0, evaluations=1, saves=2))
    step_of = trainer.optimizer.step

    def wreck(learning_rate):
        step_of(learning_rate)
        if trainer.at.step == 14:
            next(iter(trainer.optimizer.buffers.values())).values.fill_(math.inf)

    trainer.optimizer.step = wreck
    with pytest.warns(NotFiniteWarning, match="is not saved"):
        assert trainer.train(lambda trainer: None) in ("finished", "diverged")
        trainer.save()
    kept = trainer.run.checkpoints.load("last")
    assert kept is not None and kept[0].state["step"] == 10
    assert all(tensor.isfinite().all() for tensor in kept[0].weights.values())


def skipped(trainer):
    return [row for row in trainer.run.rows() if row["event"] == "skipped"]


def weights(trainer):
    return torch.cat([parameter.detach().flatten().clone() for parameter in trainer.model.parameters()])


def test_a_step_with_a_non_finite_gradient_is_skipped_counted_and_named(tiny, trainer_of):
    trainer = trainer_of(tiny(num_layers=2, signals=0, evaluations=1, saves=0))
    poison(trainer, site=2, steps=(4, 9))
    before = {}

    def remember(trainer):
        before[trainer.at.step] = weights(trainer)

    assert trainer.train(remember) == "finished"
    assert [row["step"] for row in skipped(trainer)] == [5, 10]
    assert torch.equal(before[5], before[4]) and torch.equal(before[10], before[9])
    assert not torch.equal(before[6], before[5])
    for row in skipped(trainer):
        # The deepest parameter that the poison reached: sublayer 3 above it is whole.
        assert row["layer"].startswith("stack.blocks.2.sublayer.")
        assert row["grad_norm"] in ("inf", "nan")
    assert torch.isfinite(weights(trainer)).all()


def test_five_in_a_row_stop_the_run_and_four_do_not(tiny, trainer_of):
    trainer = trainer_of(tiny(signals=0, evaluations=1, saves=1))
    poison(trainer, site=1, steps=(*range(2, 6), *range(8, 13)))
    assert trainer.train(lambda trainer: None) == "diverged"
    assert trainer.at.step == 13
    assert trainer.run.checkpoints.names() == ["step-00000013"]
    trainer.note("end", status="diverged")
    found = assess(trainer.run.rows(), trainer.task.unigram_entropy)
    assert (found.kind, found.site) == ("diverged", 1)
    assert found.figure.startswith("5 steps in a row with a non-finite gradient, from step 9 on")


def test_a_run_with_an_absurd_learning_rate_is_named_diverged(tiny, tmp_path):
    config = tiny(learning_rate=1e30, clip_norm=0, warm_up=0, schedule="constant", max_bad_steps=3, num_layers=2)
    result = train(config, tmp_path / "run")
    assert result["status"] == "diverged"
    assert result["diagnosis"]["kind"] == "diverged"
    rows = RunFolder(tmp_path / "run").rows()
    assert [row["event"] for row in rows][-2:] == ["validation", "end"]
    assert sum(row["event"] == "skipped" for row in rows) == 3
    assert train(config, tmp_path / "run", resume=True)["status"] == "diverged"


def test_a_forward_that_overflows_is_named_by_the_first_module(tiny, trainer_of):
    trainer = trainer_of(tiny(num_layers=3, signals=0, evaluations=1, saves=0, max_bad_steps=1))
    with torch.no_grad():
        for sublayer in (3, 5):
            trainer.stack.blocks[sublayer].get_submodule("sublayer.fc2").weight.fill_(math.nan)
    assert trainer.train(lambda trainer: None) == "diverged"
    assert skipped(trainer)[0]["layer"] == "stack.blocks.3.sublayer"
    assert skipped(trainer)[0]["grad_norm"] == "nan"


def test_a_norm_that_overflows_though_every_gradient_is_finite_is_named_too(tiny, trainer_of):
    trainer = trainer_of(tiny(signals=0, evaluations=1, saves=0, max_bad_steps=1))
    weight = trainer.stack.blocks[1].get_submodule("sublayer.fc1").weight

    def fill(parameter):
        parameter.grad.fill_(1e25)

    weight.register_post_accumulate_grad_hook(fill)
    assert trainer.train(lambda trainer: None) == "diverged"
    assert skipped(trainer)[0]["layer"] == "stack.blocks.1.sublayer.fc1.weight"


def test_looking_for_the_origin_leaves_the_random_stream_alone(tiny, tmp_path, trainer_of):
    trainer = trainer_of(tiny(dropout=0.2, scheme="post-norm(norm=batch)"))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    buffers = [buffer.clone() for buffer in trainer.model.buffers()]
    assert buffers
    trainer.model.train()
    origin(trainer.model, trainer.task.train_batch(0), trainer.gradient.loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(now, old) for now, old in zip(trainer.model.buffers(), buffers, strict=True))
