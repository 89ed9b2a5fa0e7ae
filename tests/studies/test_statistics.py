from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from addnorm.studies.statistics import estimate, holm, paired_difference, paired_ratio, t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 29, 100, 1001])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_the_t_quantile_is_that_of_scipy(degrees: int, confidence: float) -> None:
    # Halving leaves 2^-60 of the angle; scipy's own quantile is good to about 1e-12.
    assert t_quantile(degrees, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=8))
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found = estimate(values)
    error = stats.sem(values)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, len(values) - 1) * error, rel=1e-9, abs=1e-9)
    assert found.mean == pytest.approx(sum(values) / len(values), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.1]])
def test_fewer_than_three_values_have_no_interval(values: list[float]) -> None:
    assert estimate(values).half_width is None
    assert not estimate(values).excludes(0.0) and estimate(values).p_value() == 1.0


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=8), st.floats(0.01, 5))
def test_p_values_are_those_of_scipy(values: list[float], margin: float) -> None:
    if stats.tstd(values) < 1e-6:
        return
    found = estimate(values)
    assert found.p_value() == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6, abs=1e-12)
    low = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    high = stats.ttest_1samp(values, margin, alternative="less").pvalue
    if abs(found.mean) < margin:
        assert found.p_outside(margin) == pytest.approx(max(low, high), rel=1e-6, abs=1e-12)
    else:
        assert found.p_outside(margin) == 1.0 and max(low, high) >= 0.5 - 1e-9


def test_holm_is_that_of_the_textbook() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {} and holm({"a": 0.9, "b": 0.8})["a"] == 1.0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_diverged_run_takes_the_mean_and_the_interval_with_it(bad: float) -> None:
    found = estimate([2.0, bad, 2.1])
    assert not math.isfinite(found.mean) and found.half_width is None and found.n == 3


def test_a_difference_pairs_by_seed_and_leaves_out_seeds_that_one_side_lacks() -> None:
    found = paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {1: 4.0, 0: 2.0, 7: 1.0})
    assert found is not None
    assert (found.mean, found.half_width, found.n) == (1.0, None, 2)
    third = paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {1: 4.0, 0: 2.0, 2: 8.0})
    assert third is not None and (third.mean, third.half_width, third.n) == (1.0, 0.0, 3)


def test_a_ratio_pairs_by_seed() -> None:
    found = paired_ratio({0: 3.0, 1: 8.0}, {0: 2.0, 1: 4.0})
    assert found is not None and found.mean == pytest.approx(1.75)


def test_without_a_common_seed_there_is_nothing_to_pair() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_ratio({}, {}) is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    import random

    draw = random.Random(0)
    covered = 0
    for _ in range(4000):
        values = [draw.gauss(1.0, 2.0) for _ in range(3)]
        covered += not estimate(values).excludes(1.0)
    # The share of 4000 draws has a standard deviation of 0.0034.
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)
