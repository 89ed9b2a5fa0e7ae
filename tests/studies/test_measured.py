from __future__ import annotations

import math
from typing import Any

import pytest

from addnorm.studies.measured import Curve, Measured, equal_time, equal_tokens, measured
from addnorm.studies.spec import Arm
from addnorm.studies.store import RunRecord
from studies.run_folders import FADING, STALLED, TRAINS, UNIGRAM

ARM = Arm(id="a", scheme="pre-norm", layers=2, learning_rate=1e-3)


def run(
    seed: int = 0,
    *,
    seconds: float = 4.0,
    tokens: int = 1000,
    losses: tuple[float, ...] = (5.0, 3.0, 2.0),
    diagnosis: dict[str, Any] = TRAINS,
    status: str = "finished",
) -> RunRecord:
    last = len(losses) - 1
    rows = [
        {"event": "validation", "step": i, "tokens": tokens * i / last, "wall_s": seconds * i / last, "loss": loss}
        for i, loss in enumerate(losses)
    ]
    result = {"status": status, "diagnosis": diagnosis, "tokens_per_s": tokens / seconds}
    return RunRecord(seed=seed, about={"unigram_entropy": UNIGRAM}, result=result, rows=rows)


def curve(**values: Any) -> Curve:
    return measured(ARM, [run(**values)]).curves[0]


def test_between_two_measurements_the_loss_is_on_their_line() -> None:
    assert curve().at_tokens(250) == pytest.approx(4.0)
    assert curve().at_time(3.0) == pytest.approx(2.5)
    assert curve().at_tokens(1000) == 2.0
    assert curve().at_tokens(0) == 5.0


def test_nothing_is_extrapolated() -> None:
    assert math.isnan(curve().at_tokens(1001))


def test_after_its_end_a_diverged_run_has_an_infinite_loss() -> None:
    broken = curve(status="diverged", tokens=400)
    assert broken.at_tokens(1000) == math.inf
    assert broken.at_tokens(100) == pytest.approx(4.0)


def test_after_its_end_a_run_that_stopped_early_has_the_loss_of_the_model_that_it_leaves() -> None:
    stopped = curve(status="stopped early", tokens=400, losses=(5.0, 2.0, 3.0))
    assert stopped.is_whole
    assert stopped.at_tokens(300) == pytest.approx(2.5)
    assert stopped.at_tokens(400) == stopped.at_tokens(1000) == 2.0
    assert stopped.share_at_time(100.0) == 1.0


def test_runs_that_stopped_early_do_not_shorten_the_comparison() -> None:
    whole = measured(ARM, [run(0, seconds=4.0), run(1, seconds=3.5)])
    stopped = measured(ARM, [run(seed, seconds=1.0, tokens=300, status="stopped early") for seed in (0, 1)])
    assert equal_tokens([whole, stopped]) == 1000
    assert equal_time([whole, stopped]) == {0: 4.0, 1: 3.5}
    assert equal_tokens([stopped]) == 300 and equal_time([stopped]) == {0: 1.0, 1: 1.0}


def test_equal_time_is_that_of_the_fastest_whole_run_of_the_seed() -> None:
    fast = measured(ARM, [run(0, seconds=4.0), run(1, seconds=3.5)])
    slow = measured(ARM, [run(0, seconds=9.0), run(1, seconds=8.0)])
    broken = measured(ARM, [run(0, seconds=0.5, tokens=50, status="diverged")])
    assert equal_time([slow, fast, broken]) == {0: 4.0, 1: 3.5}
    # Every whole run can be read there.
    for item in (slow, fast):
        assert all(math.isfinite(loss) for loss in item.losses_at_time({0: 4.0, 1: 3.5}).values())
    assert slow.share_at_time({0: 4.5, 1: 2.0}) == pytest.approx((0.5 + 0.25) / 2)
    assert equal_time([broken]) == {}


def test_equal_tokens_are_the_budget_and_under_a_time_budget_what_the_slowest_saw() -> None:
    assert equal_tokens([measured(ARM, [run(tokens=1000)]), measured(ARM, [run(tokens=1000)])]) == 1000
    assert equal_tokens([measured(ARM, [run(tokens=1000)]), measured(ARM, [run(tokens=600)])]) == 600


def test_who_is_slow_pays_at_equal_time() -> None:
    fast, slow = measured(ARM, [run(seconds=4.0)]), measured(ARM, [run(seconds=8.0)])
    at = equal_time([fast, slow])
    assert fast.losses_at_tokens(1000) == slow.losses_at_tokens(1000)
    assert fast.losses_at_time(at)[0] == 2.0 and fast.share_at_time(at) == 1.0
    assert slow.losses_at_time(at)[0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("runs", "trains"),
    [
        ([run(0), run(1), run(2)], True),
        ([run(0), run(1), run(2, diagnosis=STALLED)], True),
        ([run(0), run(1, diagnosis=STALLED), run(2, diagnosis=STALLED)], False),
        ([run(0), run(1, diagnosis=STALLED)], False),
        ([run(0), run(1), run(2, status="diverged")], False),
        ([run(0, diagnosis=FADING), run(1, diagnosis=FADING)], True),
        ([], False),
    ],
)
def test_an_arm_trains_when_most_of_its_seeds_do_and_none_diverged(runs: list[RunRecord], trains: bool) -> None:
    assert measured(ARM, runs).trains() is trains


def test_an_arm_without_runs_has_no_values() -> None:
    empty: Measured = measured(ARM, [])
    assert empty.losses_at_tokens(5) == {} and empty.seeds == [] and equal_time([empty]) == {}
