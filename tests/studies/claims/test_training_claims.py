from __future__ import annotations

import json
import math
import signal

import pytest

from addnorm.files import append_json_line
from addnorm.studies.claim import Line
from addnorm.studies.experiments import paired_training
from addnorm.studies.experiments.paired import better_by, last_difference
from addnorm.studies.experiments.paired_training import Stopped, Trained, curves, short_run, train_all, trained
from addnorm.studies.statistics import Estimate
from addnorm.training.interruption import Interrupted


def test_the_same_seed_trains_the_same():
    config = short_run(3, num_layers=1, evaluations=1)
    assert trained(config) == trained(config)


def test_arms_of_a_seed_start_from_the_same_loss_where_their_functions_are_equal():
    config = short_run(2, num_layers=1, evaluations=1)
    runs = train_all({"a": config, "b": config}, 2, lambda share: None)
    assert runs["a"] == runs["b"]
    assert runs["a"][0].curve != runs["a"][1].curve


def test_the_folder_is_shown_once_and_then_gone():
    seen = []

    def look(folder):
        assert (folder / "result.json").exists()
        seen.append(folder)

    trained(short_run(2, num_layers=1, evaluations=1), look)
    (folder,) = seen
    assert not folder.exists()


def test_a_signal_within_a_claim_stops_the_command_with_its_own_code(monkeypatch):
    def interrupted(config, folder):
        raise Interrupted(folder, signal.SIGTERM)

    monkeypatch.setattr(paired_training, "train", interrupted)
    with pytest.raises(Stopped) as stop:
        trained(short_run(2))
    assert stop.value.exit_code == 143


@pytest.mark.parametrize(("status", "last", "end"), [("finished", 2.5, 2.5), ("diverged", 2.5, math.inf)])
def test_a_run_that_diverged_ends_at_infinity(tmp_path, status, last, end):
    for step, loss in ((0, 5.0), (10, last)):
        append_json_line(tmp_path / "metrics.jsonl", {"event": "validation", "step": step, "loss": loss})
    (tmp_path / "run.json").write_text(json.dumps({"unigram_entropy": 3.3}))
    run = paired_training._read(tmp_path, {"status": status})
    assert run.final == end
    assert run.learns == (status == "finished")


def test_a_curve_that_ends_early_is_infinite_from_there():
    long, short = (Trained(curve=curve, unigram_entropy=3.3) for curve in (((0, 5.0), (10, 3.0)), ((0, 5.0),)))
    assert curves({"it": [long, short]}, {"it": "it"})["it"].points[10] == (3.0, math.inf)


def test_a_difference_is_taken_seed_by_seed():
    this, that = Line(label="", points={1: (2.0, 3.0, 4.0)}), Line(label="", points={1: (2.5, 3.5, 4.5)})
    found = last_difference(this, that)
    assert found.mean == -0.5 and found.half_width == 0.0


@pytest.mark.parametrize(("mean", "verdict"), [(-math.inf, "reproduced"), (math.inf, "not reproduced")])
def test_who_diverges_has_lost(mean, verdict):
    assert better_by(Estimate(mean=mean, half_width=None, n=3), 0.1) == verdict


def test_one_seed_tells_nothing():
    assert better_by(Estimate(mean=-1.0, half_width=None, n=1), 0.1) == "not testable at this size"
