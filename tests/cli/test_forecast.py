"""`addnorm forecast` as a user runs it."""

from __future__ import annotations

import json

import pytest

from command_line import here

SMALL = ["--schemes", "post-norm", "mhc(streams=2)", "--layers", "2", "--d-model", "16", "--context", "16"]


def test_theory_stands_beside_what_a_fresh_model_shows(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = here("forecast", *SMALL, "--no-training", "--json")
    assert seen.code == 0, seen.err
    told = json.loads(seen.out)
    assert all("arXiv" in source for source in told["sources"].values())
    assert [one["scheme"] for one in told["forecasts"]] == ["pre-norm", "post-norm", "mhc(streams=2)"]
    for one in told["forecasts"]:
        assert len(one["predicted"]["state_rms"]) == len(one["measured"]["state_rms"]) == 5
        # Width 16 is far from wide.
        assert one["predicted"]["state_rms"][-1] == pytest.approx(one["measured"]["state_rms"][-1], rel=0.5)
        assert one["predicts_warm_up"] is False
        assert one["rates"] is None and one["largest_rate"] is None
        assert one["training_bytes"] > 16 * one["parameters"]
        assert one["flops"] > 0 and one["traffic"] > one["activation_bytes"] > 0
    assert not list(tmp_path.iterdir())


def test_the_short_runs_give_a_rate_and_a_verdict_on_warm_up() -> None:
    seen = here("forecast", "--schemes", "pre-norm", "--layers", "1", "--d-model", "16", "--context", "16", "--json")
    assert seen.code == 0, seen.err
    (one,) = json.loads(seen.out)["forecasts"]
    assert 1e-3 < one["largest_rate"] < 1
    assert one["warm_up_verdict"] in ("not needed", "stalls with one too")
    assert one["warm_up"]["rate"] == 4e-3


def test_the_table_has_both(tmp_path) -> None:
    seen = here("forecast", *SMALL, "--no-training")
    assert seen.code == 0, seen.err
    assert "predicted / measured" in seen.out and "training memory" in seen.out and "arXiv:1712.08969" in seen.out
    assert "mhc(streams=2)" in seen.out


def test_an_unknown_scheme_is_one_line() -> None:
    seen = here("forecast", "--schemes", "pre-nrom")
    assert seen.code == 2 and seen.is_one_line_of_error()
