"""A comparison whose runs start from earlier weights."""

from __future__ import annotations

import json

import pytest

from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.studies.compare import check, compare
from addnorm.studies.pretrained import completed
from addnorm.studies.spec import CompareConfig, runs
from addnorm.training.run import train

SMALL = {"tokens": (128,), "context": 16, "evaluation_tokens": 64, "evaluations": 1, "signals": 0, "seeds": 2}


@pytest.fixture
def start(tmp_path):
    """A run to start from, under Post-LN, and its text."""
    text = tmp_path / "text.txt"
    text.write_text("The quality of mercy is not strained.\n" * 400)
    shape = {"d_model": 24, "num_heads": 3, "num_layers": 1, "scheme": "post-norm(norm=rms)", "d_ff": 40}
    brief = {"context": 16, "tokens": 256, "evaluations": 1, "evaluation_tokens": 64, "signals": 0}
    train(RunConfig(data=str(text), **(shape | brief)), tmp_path / "first")
    return {"init": str(tmp_path / "first"), "data": str(text)}


def test_the_weights_bring_shape_depth_tokenizer_and_the_baseline(start):
    found = completed(start, {"d_model": 99, "schemes": ("pre-norm", "post-norm", "mhc")}, {})
    assert (found["d_model"], found["d_ff"], found["layers"]) == (24, 40, (1,))
    assert found["tokenizer"] == f"hf:{start['init']}"
    assert schemes.parse(found["baseline"]) == schemes.parse("post-norm(norm=rms)")
    assert found["schemes"] == (found["baseline"], "pre-norm(norm=rms)", "mhc(norm=rms)")


def test_what_trains_a_task_from_earlier_weights_is_taken_with_them(start):
    training = {"init": "minilm", "learning_rate": 1e-4, "warm_up": 0.1}
    defaults = {"learning_rates": (3e-3,), "warm_up": 0.5}
    assert completed(start, defaults, training)["learning_rates"] == (1e-4,)
    assert completed({**start, "learning_rates": (1.0,)}, defaults, training)["learning_rates"] == (1.0,)
    assert completed(start, defaults, {**training, "init": "xavier"})["learning_rates"] == (3e-3,)


def test_another_shape_or_depth_than_that_of_the_weights_is_refused(start):
    with pytest.raises(UserError, match=r"layers=2, 8 came, but .* has 1; leave --layers out"):
        completed({**start, "layers": (2, 8)}, {}, {})
    with pytest.raises(UserError, match=r"d_model=32 came, but .* has d_model=24"):
        completed({**start, "d_model": 32}, {}, {})
    with pytest.raises(UserError, match=r"gone' is neither .* nor a folder"):
        check(CompareConfig(**{**start, "init": "gone"}, **SMALL))
    with pytest.raises(UserError, match="has shape"):
        check(CompareConfig(**start, **SMALL, layers=(1,)))


def test_all_runs_start_from_the_weights(start, tmp_path):
    given = {**start, **SMALL, "schemes": ("post-norm(norm=rms)", "pre-norm")}
    spec = CompareConfig(**completed(given, {}, {}))
    assert {run.config.init for run in runs(spec)} == {start["init"]}
    results = compare(spec, tmp_path / "out")
    assert not results["failures"] and "All runs start from" in results["notes"][-1]
    lines = {}
    for run in runs(spec):
        about = json.loads((tmp_path / "out" / "runs" / run.name / "run.json").read_text())
        lines.setdefault(run.config.scheme, set()).add(tuple(about["started_from"][:2]))
    assert all(len(found) == 1 for found in lines.values())
    own, other = lines["post-norm(norm=rms)"].pop(), lines["pre-norm(norm=rms)"].pop()
    assert not any("new:" in line for line in own) and "new: stack" in other[1]
