"""What is declared is so as often as the page says: on schemes that differ in nothing, and by a planted amount."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats

from addnorm.errors import UserError
from addnorm.studies import decision
from addnorm.studies.compare import is_decided, seeds_of_rounds
from addnorm.studies.decision import decide, seeds_to_decide
from addnorm.studies.spec import CompareConfig
from addnorm.studies.statistics import Estimate, estimate, t_quantile

TIMES = 2000
# Three standard errors of a share of 2,000 draws at 5 %.
SLACK = 3 * (0.05 * 0.95 / TIMES) ** 0.5


@pytest.fixture
def words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks how many seeds would decide, which takes most of the time."""
    monkeypatch.setattr(decision, "MOST_SEEDS", 0)


def estimates(values: np.ndarray) -> dict[int, Estimate]:
    """As `estimate` of each row, which is exact and slow."""
    n = values.shape[1]
    halves = t_quantile(n - 1) * values.std(axis=1, ddof=1) / n**0.5
    pairs = enumerate(zip(values.mean(axis=1).tolist(), halves.tolist(), strict=True))
    return {i: Estimate(mean=mean, half_width=half, n=n) for i, (mean, half) in pairs}


def draws(random_: np.random.Generator, arms: int, seeds: int, true: float = 0.0) -> dict[int, Estimate]:
    """Differences to one baseline, whose own noise is in all of them, by arms of spreads of their own."""
    base = random_.normal(0, 0.05, seeds)
    own = random_.normal(0, 0.02 * (1 + np.arange(arms))[:, None], (arms, seeds))
    return estimates(true + own - base)


def test_estimates_of_rows_are_those_of_each() -> None:
    rows = np.random.default_rng(0).normal(0.1, 0.05, (3, 5))
    for i, found in estimates(rows).items():
        expected = estimate(rows[i].tolist())
        assert (found.mean, found.half_width) == pytest.approx((expected.mean, expected.half_width), rel=1e-12)


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("arms", [1, 5, 10, 20])
def test_of_comparisons_of_equal_schemes_at_most_one_in_twenty_declares_a_difference(arms: int, seeds: int) -> None:
    random_ = np.random.default_rng(arms * 100 + seeds)
    wrong = sum(
        any(one.word in ("better", "worse") for one in decide(draws(random_, arms, seeds), 0.01).values())
        for _ in range(TIMES)
    )
    assert wrong / TIMES <= 0.05 + SLACK


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize("arms", [1, 10])
def test_of_schemes_that_differ_by_the_margin_at_most_one_in_twenty_is_called_equal(arms: int) -> None:
    random_ = np.random.default_rng(arms)
    wrong = sum(
        any(one.word == "equal" for one in decide(draws(random_, arms, 8, true=0.1), 0.1).values())
        for _ in range(TIMES)
    )
    assert wrong / TIMES <= 0.05 + SLACK


@pytest.mark.usefixtures("words_alone")
@pytest.mark.parametrize("schemes", [3, 6])
def test_who_is_named_worse_than_the_best_of_equals_is_named_wrongly_in_one_of_twenty(schemes: int) -> None:
    random_, wrong = np.random.default_rng(schemes), 0
    for _ in range(TIMES):
        losses = random_.normal(2.5, 0.05, (schemes, 5))
        best, *others = losses[losses.mean(axis=1).argsort()]
        found = decide(estimates(np.stack(others) - best), 0.01, family=schemes * (schemes - 1) // 2)
        wrong += any(one.word == "worse" for one in found.values())
    assert wrong / TIMES <= 0.05 + SLACK


@pytest.mark.usefixtures("words_alone")
def test_looking_in_rounds_keeps_the_error() -> None:
    random_, wrong = random.Random(0), 0
    rounds = seeds_of_rounds(CompareConfig(seeds=5, until_decided=True, max_seeds=20))
    assert rounds == [5, 8, 12, 18, 20]
    for _ in range(TIMES):
        noise = [random_.gauss(0, 0.05) for _ in range(rounds[-1])]
        looks = (decide({0: estimate(noise[:n])}, 0.0, error=0.05 / len(rounds))[0].word for n in rounds)
        wrong += any(word in ("better", "worse") for word in looks)
    assert wrong / TIMES <= 0.05 + SLACK


def test_a_planted_difference_is_found_as_often_as_student_says() -> None:
    """One difference of two standard deviations, 5 seeds: the noncentral t distribution gives the power."""
    random_ = random.Random(1)
    found = [decide({0: estimate([random_.gauss(-0.1, 0.05) for _ in range(5)])}, 0.01)[0].word for _ in range(TIMES)]
    power = stats.nct.sf(stats.t.ppf(0.975, 4), 4, 2 * 5**0.5)
    assert found.count("better") / TIMES == pytest.approx(power, abs=3 * (power * (1 - power) / TIMES) ** 0.5)
    assert "worse" not in found


def test_equal_schemes_measured_well_are_called_equal() -> None:
    random_ = random.Random(2)
    found = [decide({0: estimate([random_.gauss(0, 0.005) for _ in range(8)])}, 0.01)[0].word for _ in range(500)]
    assert found.count("equal") / 500 > 0.95


def test_a_difference_that_is_real_but_below_the_margin_is_equal() -> None:
    assert decide({0: Estimate(mean=-0.003, half_width=0.001, n=8)}, 0.01)[0].word == "equal"
    assert decide({0: Estimate(mean=-0.003, half_width=0.001, n=8)}, 0.0)[0].word == "better"


def test_the_seeds_that_would_decide_do_decide() -> None:
    difference = Estimate(mean=0.246, half_width=0.327, n=3)
    seeds = seeds_to_decide(difference, 0.01, 0.05)
    assert seeds is not None and 3 < seeds < 20
    spread = difference.standard_error() * 3**0.5

    def word(n: int) -> str:
        return decide({0: Estimate(mean=0.246, half_width=t_quantile(n - 1) * spread / n**0.5, n=n)}, 0.01)[0].word

    assert word(seeds) == "worse" and word(seeds - 1) == "not decided"
    assert seeds_to_decide(Estimate(mean=1e-6, half_width=1.0, n=3), 0.0, 0.05) is None
    assert decide({0: difference}, 0.01)[0].seeds == seeds


def test_with_two_seeds_nothing_is_decided() -> None:
    found = decide({0: estimate([-5.0, -5.0]), 1: None}, 0.01)
    assert [one.word for one in found.values()] == ["not decided", "not decided"] and found[0].seeds is None


def test_a_comparison_is_decided_when_no_arm_is_open() -> None:
    said = lambda *words: {"arms": [{"verdict": word} for word in words]}  # noqa: E731
    assert is_decided(said("baseline", "better", "equal", "does not train"))
    assert not is_decided(said("baseline", "not decided"))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"margin": -1.0}, "margin"),
        ({"error": 0.0}, "error=0.0 is not allowed"),
        ({"seeds": 5, "until_decided": True, "max_seeds": 4}, "max_seeds=4 is below seeds=5"),
        ({"seeds": 1, "learning_rates": (1e-3, 2e-3), "pick": "best"}, "leaves none to judge by"),
    ],
)
def test_what_cannot_be_decided_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CompareConfig(**fields)
