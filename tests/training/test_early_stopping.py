from __future__ import annotations

import pytest

from addnorm import tasks
from addnorm.errors import UserError
from addnorm.training.interruption import Watch
from addnorm.training.load import load_model
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder
from addnorm.training.trainer import Trainer


@pytest.fixture
def overfitting(tiny):
    """A run whose validation loss falls and then rises: 600 bytes of text, seen again and again."""

    def make(folder, **changes):
        text = folder / "short.txt"
        text.write_text("".join(f"{(i * i * 7919) % 1009} and " for i in range(120)))
        fields = {"tokens": 400 * 64, "learning_rate": 2e-2, "evaluations": 20, "saves": 1, "signals": 0}
        return tiny(data=str(text), schedule="constant", **(fields | changes))

    return make


def validation(folder):
    return {row["step"]: row["loss"] for row in RunFolder(folder).rows() if row["event"] == "validation"}


@pytest.mark.slow
def test_a_run_that_no_longer_improves_stops_and_its_best_is_loaded(overfitting, tmp_path):
    config = overfitting(tmp_path, patience=3)
    result = train(config, tmp_path / "run")
    losses = validation(tmp_path / "run")
    best, last = min(losses, key=lambda step: losses[step]), max(losses)
    assert result["status"] == "stopped early"
    assert last < 400 and last - best == 3 * 20
    assert result["lowest_validation_loss"] == losses[best] < result["validation_loss"] == losses[last]
    model, _, _ = load_model(tmp_path / "run")
    assert tasks.prepare(config).evaluate(model) == losses[best]  # stored and read back exactly
    assert RunFolder(tmp_path / "run").rows()[-1]["status"] == "stopped early"
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) <= 3


@pytest.mark.slow
def test_without_patience_it_goes_on(overfitting, tmp_path):
    result = train(overfitting(tmp_path), tmp_path / "run")
    assert result["status"] == "finished" and max(validation(tmp_path / "run")) == 400


def test_a_run_that_improves_is_not_stopped(tiny, tmp_path):
    result = train(tiny(tokens=60 * 64, learning_rate=5e-3, evaluations=6, patience=1), tmp_path / "run")
    assert result["status"] == "finished"


def test_a_loss_that_is_no_number_is_no_gain(tiny, tmp_path, monkeypatch):
    config = tiny(patience=2, evaluations=10)
    problem = tasks.prepare(config)
    trainer = Trainer(config, problem, problem.build(), RunFolder(tmp_path), Watch())
    monkeypatch.setattr(problem, "evaluate", lambda model: float("nan"))
    assert trainer.train(lambda trainer: None) == "stopped early"
    assert trainer.at.without_gain == 2


def test_patience_is_a_whole_number(tiny):
    for patience in (-1, 1.5):
        with pytest.raises(UserError, match="patience"):
            tiny(patience=patience)
