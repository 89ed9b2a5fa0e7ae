"""The rows of the benchmark: the registry, turns and ratios, what is stored, what is shown."""

from __future__ import annotations

import inspect
import json
import time
from dataclasses import replace
from importlib import metadata

import pytest
import torch

from addnorm import UserError, bench
from addnorm.bench import peers
from addnorm.bench.alternation import alternate, ratio
from addnorm.bench.measure import chosen, load, outcome, run
from addnorm.bench.ratios import Spread, paired_ratio, spread
from addnorm.bench.row import HOLDS_BACK, Goal, Row, Times
from addnorm.bench.rows.depth import distance_from_line
from addnorm.reports.bench_page import markdown, terminal_lines
from command_line import here

FAST = ("mhc-memory", "add-norm-bandwidth")


def test_the_folder_is_the_registry_and_the_numbers_are_the_order():
    numbers = [row.number for row in chosen([])]
    assert numbers == sorted(set(numbers)) and set(numbers) <= set(range(1, 11))
    assert all(bench.name_of(bench.get(name)) == name for name in bench.names())
    with pytest.raises(UserError, match="did you mean 'decoding'|decoding"):
        bench.get("decodin")


@pytest.mark.parametrize("name", bench.names())
def test_every_row_says_what_it_measures_and_has_a_small_size(name):
    kind = bench.get(name)
    assert kind.title and kind.measures.endswith(".")
    assert kind.quick() != kind()
    assert HOLDS_BACK not in (inspect.getdoc(kind) or "") or (inspect.getdoc(kind) or "").count(HOLDS_BACK) == 1


def test_a_spread_is_the_median_with_interpolated_quartiles():
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(median=2.5, low=1.75, high=3.25, n=4)
    assert spread([7.0]) == Spread(median=7.0, low=7.0, high=7.0, n=1)


def test_ratios_are_taken_within_a_round():
    # A machine that is ten times slower in the last round changes no ratio; the ratio of the medians would be 3.
    found = paired_ratio([2.0, 6.0, 30.0], [1.0, 2.0, 10.0])
    assert found == Spread(median=3.0, low=2.5, high=3.0, n=3)
    assert paired_ratio([2.0, 2.0, 90.0], [1.0, 8.0, 10.0]).median == 2.0  # of 2, 0.25, 9


def test_arms_take_turns_and_the_first_round_does_not_count():
    order: list[str] = []
    shares: list[float] = []
    times = alternate({name: lambda name=name: order.append(name) for name in "ab"}, 3, shares.append)
    assert "".join(order) == "abababab"
    assert all(len(arm.cpu_s) == len(arm.wall_s) == 3 for arm in times.values())
    assert shares == sorted(shares) and shares[-1] == 1


def test_time_asleep_is_wall_time_and_no_processor_time():
    times = alternate({"asleep": lambda: time.sleep(0.05)}, 2, lambda share: None)["asleep"]
    assert all(wall >= 0.05 for wall in times.wall_s)
    assert all(cpu < 0.04 for cpu in times.cpu_s)


def test_a_goal_judges_either_way():
    ours, theirs = Times(cpu_s=[1.0, 1.0], wall_s=[2.0, 2.0]), Times(cpu_s=[2.0, 2.0], wall_s=[2.0, 2.0])
    figure = ratio("theirs over ours", theirs, ours, Goal(target=1.8))
    assert figure.value.median == 2 and figure.wall is not None and figure.wall.median == 1
    assert figure.goal is not None and figure.goal.reached_by(2.0) and not figure.goal.reached_by(1.7)
    low = Goal(target=1.08, stretch=1.05, better="lower")
    assert low.reached_by(1.08) and not low.reached_by(1.09)


def test_the_distance_from_a_line_is_relative_and_zero_on_it():
    assert distance_from_line([10, 30, 1000], [25.0, 65.0, 2005.0]) < 1e-12
    # By hand: weights 1, 1 and 1/4, means 2/3 and 10/9, slope 1/3; the line is 8/9, 11/9, 14/9.
    assert distance_from_line([0, 1, 2], [1.0, 1.0, 2.0]) == pytest.approx(2 / 9)


def test_what_holds_a_row_back_is_read_from_its_docstring():
    class Told(Row):
        """A row.

        What holds it back: the weights must
        be read.
        """

    class Silent(Row):
        """A row."""

    assert Told.holds_back() == "the weights must be read."
    assert Silent.holds_back() == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in bench.names() if name != "start-up"])
def test_every_row_runs_at_its_small_size(name):
    (row,) = chosen([name], quick=True, rounds=1)
    item = outcome(row, "addnorm bench")
    json.dumps(item)
    assert item["figures"] and item["quick"]
    for figure in item["figures"]:
        value = figure["value"]
        assert value["low"] <= value["median"] <= value["high"]
        goal = figure["goal"]
        assert goal is None or figure["reached"] == Goal(**goal).reached_by(value["median"])
    assert all(len(arm["cpu_s"]) == 1 for arm in item["rounds"].values())


def test_a_missing_peer_leaves_its_column_empty_and_says_what_to_install(monkeypatch):
    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(peers.metadata, "version", version)
    item = outcome(chosen(["training-fp32"], quick=True, rounds=1)[0], "addnorm bench")
    assert [figure["label"].partition("over ")[2] for figure in item["figures"]] == ["torch.nn.TransformerEncoder"]
    assert any("pip install x-transformers==" in note for note in item["missing"])
    assert any("pip install transformers==" in note for note in item["missing"])


def test_rows_that_were_measured_before_stay_in_the_file(tmp_path):
    file = tmp_path / "some.json"
    for name in FAST:
        run(chosen([name], quick=True), file, "addnorm bench")
    stored = load(file)
    assert {row["name"] for row in stored["rows"]} == set(FAST)
    assert [row["number"] for row in stored["rows"]] == [4, 6]
    assert stored["machine"]["processor"] and stored["machine"]["packages"]["torch"]
    assert "rates" not in stored["machine"]  # nothing to compare small sizes with
    assert set(stored["peers"]) == {peer.package for peer in peers.PEERS}


def test_one_thread_computes_and_afterwards_as_many_as_before(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stored = run(chosen(["mhc-memory"], quick=True), tmp_path / "bench.json", "addnorm bench")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert stored["rows"][0]["threads"] == 1


def test_a_figure_that_falls_short_stays_in_the_table(tmp_path):
    stored = run(chosen(["mhc-memory"], quick=True), tmp_path / "bench.json", "addnorm bench")
    (row,) = stored["rows"]
    row["quick"] = False
    row["figures"][0] |= {"reached": False, "value": {"median": 4.5, "low": 4.5, "high": 4.5, "n": 1}}
    page = markdown(stored)
    assert "4.50x" in page and "| no |" in page
    assert "What holds it back: " in page
    assert any("no" in line and "4.50x" in line for line in terminal_lines(stored, ["mhc-memory"]))


def test_small_sizes_are_not_judged(tmp_path):
    stored = run(chosen(["mhc-memory"], quick=True), tmp_path / "bench.json", "addnorm bench")
    assert "not judged" in markdown(stored) and "What holds it back" not in markdown(stored)


def test_the_list_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = here("bench", "--list")
    assert seen.code == 0 and not list(tmp_path.iterdir())
    assert [line for line in seen.out.splitlines() if not line.startswith(" ")] == [
        bench.name_of(row) for row in chosen([])
    ]
    shown = json.loads(here("bench", "decoding", "--list", "--json").out)
    assert [item["name"] for item in shown] == ["decoding"]


def test_the_command_leaves_json_and_a_page(tmp_path):
    seen = here("bench", "mhc-memory", "--quick", "--out", str(tmp_path / "dated.json"))
    assert seen.code == 0 and seen.err == ""
    stored = json.loads((tmp_path / "dated.json").read_text())
    assert stored["command"] == "addnorm bench mhc-memory --quick"
    assert (tmp_path / "dated.md").read_text() == markdown(stored)
    assert "mHC saved bytes" in seen.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["decodin"], "decoding"),
        (["decoding", "--rounds", "0"], "rounds=0"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    seen = here("bench", *words, "--out", str(tmp_path))
    assert seen.code == 2 and seen.is_one_line_of_error()
    assert said in seen.err


def test_a_place_that_holds_something_else_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "other.json").write_text('{"claims": []}')
    for place in ("file", "other.json"):
        seen = here("bench", "mhc-memory", "--quick", "--out", str(tmp_path / place))
        assert seen.code == 2 and seen.is_one_line_of_error()


def test_what_was_measured_before_ctrl_c_is_kept(tmp_path, monkeypatch):
    def stopped(self, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.get("add-norm-bandwidth"), "measure", stopped)
    seen = here("bench", *FAST, "--quick", "--out", str(tmp_path))
    assert seen.code == 130
    assert [row["name"] for row in load(tmp_path / "bench.json")["rows"]] == ["mhc-memory"]
    assert "mHC" in (tmp_path / "bench.md").read_text()


def test_other_rounds_are_the_same_row():
    (row,) = chosen(["decoding"], rounds=3)
    assert replace(row, rounds=7) == bench.get("decoding")()
