from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from html import escape
from typing import ClassVar

import pytest

from addnorm.errors import UserError
from addnorm.reports.claim_chart import claim_chart, scale
from addnorm.reports.claims_page import claims_page, write_claims_page
from addnorm.studies import claims
from addnorm.studies.claim import VERDICTS, Axes, Claim, Judgement, Line, said
from addnorm.studies.claims.sinkhorn_is_approximate import SinkhornIsApproximate
from addnorm.studies.experiments.trend import power, ratio_of_ends
from addnorm.studies.reproduce import chosen, load, outcome, reproduce
from addnorm.studies.statistics import Estimate

QUICK = SinkhornIsApproximate(matrices=64, spreads=(1.0, 8.0), seeds=2)


@dataclass(frozen=True, kw_only=True)
class Made(Claim):
    """A claim whose measurement is given."""

    value: float = 1.0

    title: ClassVar[str] = "One & <one>"
    statement: ClassVar[str] = "It is one."
    number: ClassVar[str] = "1"
    about: ClassVar[tuple[str, ...]] = ("pre-norm",)
    reference: ClassVar[str] = "Nobody 2026, arXiv:2601.00001"
    experiment: ClassVar[str] = "None"
    embedding: ClassVar[str] = "none"
    criterion: ClassVar[str] = "it is one"
    axes: ClassVar[Axes] = Axes(x="x", y="y", log_y=True)

    def measure(self, progress):
        progress(1.0)
        return {"it": Line(label="it", points={1: (self.value, self.value), 2: (self.value, 1.0)})}

    def judge(self, measured):
        figure = measured["it"].first
        verdict = "reproduced" if figure.mean == 1 else "not reproduced"
        return Judgement(verdict=verdict, quantity="it", figure=figure, sentence=f"It is {said(figure)}.")


def test_the_folder_is_the_registry_and_a_wrong_name_gets_the_nearest():
    assert "sinkhorn-is-approximate" in claims.names()
    with pytest.raises(UserError, match="did you mean 'sinkhorn-is-approximate'"):
        chosen(["sinkhorn-is-aproximate"])


def test_without_a_name_all_claims_are_chosen_and_none_twice():
    assert [claims.name_of(claim) for claim in chosen([])] == list(claims.names())
    assert len(chosen(["sinkhorn-is-approximate"] * 2)) == 1


def test_a_claim_without_seeds_is_refused():
    with pytest.raises(UserError, match="seeds"):
        Made(seeds=0)


def test_outcomes_are_stored_as_they_come_and_others_are_kept(tmp_path):
    first = reproduce([QUICK], tmp_path)
    assert json.loads((tmp_path / "claims.json").read_text()) == first
    seen = []
    both = reproduce([Made(value=2.0)], tmp_path, seen.append)
    assert {item["verdict"] for item in both["claims"]} == {"reproduced", "not reproduced"}
    assert first["claims"][0] in both["claims"]
    assert load(tmp_path) == both
    assert [progress.share for progress in seen] == [0.0, 1.0]


def test_a_second_run_replaces_what_the_first_found(tmp_path):
    reproduce([Made(value=2.0)], tmp_path)
    (item,) = reproduce([Made(value=1.0)], tmp_path)["claims"]
    assert item["verdict"] == "reproduced"


def test_a_damaged_file_is_not_overwritten(tmp_path):
    (tmp_path / "claims.json").write_text('{"claims": [{}]}')
    with pytest.raises(UserError, match="--out"):
        reproduce([QUICK], tmp_path)
    assert (tmp_path / "claims.json").read_text() == '{"claims": [{}]}'


def test_an_outcome_holds_every_measured_value_by_seed():
    item = outcome(Made(value=3.0))
    assert item["lines"] == [{"label": "it", "x": [1, 2], "y": [[3.0, 3.0], [3.0, 1.0]]}]
    assert item["figure"] == {"mean": 3.0, "half_width": None, "n": 2}  # two seeds have no interval
    assert item["verdict"] in VERDICTS


def test_the_same_claim_measures_the_same_twice():
    assert outcome(QUICK)["lines"] == outcome(QUICK)["lines"]


def test_a_power_law_gives_its_exponent_seed_by_seed():
    points = {x: (x**-0.5, 7 * x**-0.5, 3 * x**-0.5) for x in (1.0, 4.0, 16.0)}
    found = power(Line(label="", points=points))
    # The logarithms of powers of two carry a rounding of 1e-16 each.
    assert found.mean == pytest.approx(-0.5, abs=1e-12)
    assert found.half_width == pytest.approx(0, abs=1e-12)
    assert ratio_of_ends(Line(label="", points=points)).mean == pytest.approx(0.25)


def test_an_estimate_is_said_with_its_interval_only_where_there_is_one():
    assert said(Estimate(mean=2.0, half_width=None, n=1)) == "2"


def test_the_page_keeps_failures_and_loads_nothing_from_elsewhere(tmp_path):
    results = reproduce([Made(value=2.0), QUICK], tmp_path)
    path = write_claims_page(results, tmp_path)
    text = path.read_text()
    assert text.count("<figure>") == 2
    assert "not reproduced" in text and "One &amp; &lt;one&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert 'href="https://arxiv.org/abs/2601.00001"' in text
    for outside in ("<script src", "src=", "@import", "url(http", "fetch("):
        assert outside not in text


def test_a_figure_survives_numbers_that_no_axis_can_show():
    lines = [
        {"label": "gone", "x": [1, 2], "y": [["nan", "inf"], [0.0, 0.0]]},
        {"label": "well", "x": [1], "y": [[2.0]]},
    ]
    drawn = claim_chart({"axes": {"x": "a", "y": "b", "log_x": True, "log_y": True, "shows": "all"}, "lines": lines})
    assert "gone (0)" in drawn
    assert "nan," not in drawn and "inf," not in drawn


def test_an_empty_page_can_be_written():
    assert "0 claims" in claims_page({"claims": [], "addnorm": "0", "created": "2026-01-01"})


def test_a_figure_of_learning_curves_shows_their_ends():
    axes = {"x": "step", "y": "loss", "log_x": False, "log_y": False}
    lines = [{"label": "it", "x": [0, 50, 100], "y": [[9.0], [2.0], [1.0]]}]
    near, far = (claim_chart({"axes": axes | {"shows": shows}, "lines": lines}) for shows in ("end", "all"))
    assert ">8<" in far and ">8<" not in near
    assert near.count("<use") == far.count("<use") - 1


@pytest.mark.parametrize("logarithmic", [True, False])
def test_an_axis_holds_all_its_values_even_if_they_are_one(logarithmic):
    axis = scale([3.0, 3.0], logarithmic)
    assert 0 < axis.share(3.0) < 1


def test_a_claim_is_run_at_the_size_that_its_text_gives(tmp_path):
    (claim,) = chosen(["sinkhorn-is-approximate(seeds=2)"])
    assert claim == SinkhornIsApproximate(seeds=2)
    results = reproduce([QUICK], tmp_path)
    again = results["claims"][0]["specification"]
    assert chosen([again]) == [QUICK]
    assert f"addnorm reproduce {escape(shlex.quote(again))}" in write_claims_page(results, tmp_path).read_text()
