from __future__ import annotations

import pytest

from addnorm.config import RunConfig
from addnorm.training.budget import Budget, shares
from addnorm.training.schedule import FLOOR, factor


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_linearly_from_zero_to_its_peak(schedule):
    rates = [factor(progress, 0.2, schedule) for progress in (0.0, 0.05, 0.1, 0.2)]
    assert rates == pytest.approx([0.0, 0.25, 0.5, 1.0])


@pytest.mark.parametrize(("schedule", "end"), [("cosine", FLOOR), ("linear", FLOOR), ("constant", 1.0)])
def test_the_learning_rate_ends_where_it_shall(schedule, end):
    assert factor(1.0, 0.1, schedule) == pytest.approx(end)
    assert factor(1.7, 0.1, schedule) == pytest.approx(end)  # the last step of a budget of seconds is over it


def test_cosine_is_halfway_in_the_middle_and_flat_at_both_ends():
    assert factor(0.5, 0.0, "cosine") == pytest.approx((1 + FLOOR) / 2)
    assert factor(0.0, 0.0, "cosine") == 1.0
    assert 1.0 - factor(0.01, 0.0, "cosine") < 0.001
    assert factor(0.99, 0.0, "cosine") - FLOOR < 0.001


def test_without_warm_up_the_peak_comes_first():
    assert factor(0.0, 0.0, "linear") == 1.0


def test_even_shares_fall_due_once_each_and_the_last_at_the_end():
    for steps in (1, 7, 30, 49, 200, 977):
        for parts in (1, 3, 5, 10):
            counts = [shares(step / steps, parts) for step in range(steps + 1)]
            assert counts[0] == 0 and counts[-1] == parts
            assert counts == sorted(counts)
            if steps % parts == 0:
                assert [counts.index(k) for k in range(1, parts + 1)] == [
                    k * steps // parts for k in range(1, parts + 1)
                ]


def test_a_budget_of_tokens_is_counted_in_whole_steps():
    budget = Budget.of(RunConfig(tokens=1000, context=16, batch_size=4), 64)
    assert budget.steps == 16
    assert budget.progress(16, 1e9) == 1.0
    assert budget.progress(4, 0.0) == 0.25


def test_a_budget_of_seconds_counts_instead_of_tokens():
    budget = Budget.of(RunConfig(tokens=1000, context=16, batch_size=4, seconds=10), 64)
    assert budget.progress(1000, 5.0) == 0.5
    assert budget.progress(1, 20.0) == 1.0
    assert budget.expected_steps(100, 5.0) == 200
