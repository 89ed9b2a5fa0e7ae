from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from addnorm import tasks
from addnorm.config import Sweep
from addnorm.errors import UserError
from addnorm.training.lr_range import range_test
from addnorm.training.optimizer import Optimizer
from addnorm.training.run import train


@pytest.fixture
def small(tiny):
    return tiny(tokens=300 * 64, evaluations=2, signals=0, saves=0, warm_up=0.1)


@pytest.mark.slow
def test_the_suggested_rate_trains_and_a_hundred_times_it_does_not(small, tmp_path):
    small = replace(
        small, tokens=120 * 64, num_layers=4, schedule="constant", warm_up=0.0
    )  # the rate itself, from the first step on
    suggested = range_test(small).suggested
    assert suggested is not None
    good = train(replace(small, learning_rate=suggested), tmp_path / "good")
    bad = train(replace(small, learning_rate=100 * suggested), tmp_path / "bad")
    assert good["diagnosis"]["kind"] == "trains"
    chance = tasks.prepare(small).chance_loss
    assert good["validation_loss"] < chance - 0.5
    assert bad["diagnosis"]["kind"] == "diverged"
    assert bad["validation_loss"] > chance


def test_rates_rise_by_even_factors_from_low_to_high():
    sweep = Sweep(low=1e-4, high=1.0, points=41)
    assert sweep.rate(0) == 1e-4 and sweep.rate(40) == pytest.approx(1.0)
    assert sweep.rate(10) == pytest.approx(1e-3) and sweep.rate(11) / sweep.rate(10) == pytest.approx(10**0.1)


def test_it_takes_the_steps_that_it_says(small):
    """The first losses are those of AdamW's steps at these rates, on the run's own model and batches."""
    test = range_test(small, Sweep(low=1e-3, high=2e-3, points=20))
    problem = tasks.prepare(small)
    model = problem.build()
    optimizer = Optimizer(model, replace(small, clip_norm=0))
    for i in range(3):
        loss = problem.loss(model, problem.train_batch(i))
        # torch adds 1e-6 to the norm that it divides by.
        assert loss.item() == pytest.approx(test.losses[i], rel=1e-5)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), small.clip_norm)
        optimizer.step(test.rates[i])
        optimizer.clear_gradient()


@pytest.mark.slow
def test_it_ends_where_the_loss_rises_and_repeats_itself(small):
    torch.manual_seed(1)
    one = range_test(small)
    assert one.diverged is not None and one.diverged == one.rates[-1] < 10
    assert len(one.rates) == len(one.losses) == len(one.smoothed) < 200
    assert one.suggested is not None and one.lowest is not None
    assert one.suggested < one.lowest < one.diverged
    assert range_test(small) == one


def test_the_test_starts_from_the_weights_that_the_run_would_start_from(small, tmp_path):
    trained = train(replace(small, saves=1), tmp_path / "first")["validation_loss"]
    sweep = Sweep(low=1e-6, high=1e-5, points=20)  # too small to change anything
    fresh = range_test(small, sweep).losses[0]
    assert range_test(replace(small, init=str(tmp_path / "first")), sweep).losses[0] < (trained + fresh) / 2


def test_rates_that_do_nothing_suggest_nothing(small):
    test = range_test(small, Sweep(low=1e3, high=1e4, points=20))
    assert test.suggested is None and test.lowest is None and test.diverged is not None


def test_the_smoothed_loss_forgets_nothing_and_starts_without_a_guess(small):
    test = range_test(small, Sweep(low=1e-3, high=1e-2, points=20))
    shares = [0.9 ** (19 - i) for i in range(20)]
    expected = sum(share * loss for share, loss in zip(shares, test.losses, strict=True)) / sum(shares)
    assert test.smoothed[-1] == pytest.approx(expected)
    assert test.smoothed[0] == test.losses[0]


@pytest.mark.parametrize("values", [{"low": 0.0}, {"low": 1.0, "high": 0.1}, {"high": math.inf}, {"points": 5}])
def test_a_range_that_is_none_is_refused(values):
    with pytest.raises(UserError, match=r"is no range|(low=0.0|high=inf|points=5) is not allowed"):
        Sweep(**values)
