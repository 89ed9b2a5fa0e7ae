from __future__ import annotations

import math
from dataclasses import replace

import pytest

from addnorm.studies.decision import Decision
from addnorm.studies.statistics import Estimate
from addnorm.studies.verdict import Evidence, verdict
from studies.run_folders import STALLED, TRAINS

LOSS = Estimate(mean=2.5, half_width=0.1, n=3)
EVIDENCE = Evidence(
    baseline="pre-norm",
    is_baseline=False,
    trains=True,
    too_short=False,
    runs=3,
    loss=LOSS,
    difference=Estimate(mean=-0.05, half_width=0.02, n=3),
    decision=Decision(word="better"),
    decision_at_equal_time=Decision(word="worse"),
    margin=0.01,
    difference_at_equal_time=Estimate(mean=0.04, half_width=0.01, n=3),
    equal_time_s=4.25,
    share_at_equal_time=0.5,
    diagnosis={**TRAINS, "seeds": 3},
)


def test_a_difference_that_was_decided_is_better_or_worse_and_time_is_charged() -> None:
    word, text = verdict(EVIDENCE)
    assert word == "better"
    assert text == (
        "Better than pre-norm by 0.050 ± 0.020 (n = 3) nats a token; "
        "after 4.2 s of training, 50% of its tokens: worse, +0.040 ± 0.010 (n = 3)."
    )
    worse = replace(EVIDENCE, difference=Estimate(mean=0.05, half_width=0.02, n=3), decision=Decision(word="worse"))
    word, text = verdict(worse)
    assert word == "worse" and text.startswith("Worse than pre-norm by 0.050")


@pytest.mark.parametrize(
    "difference, seeds, more",
    [
        (Estimate(mean=-0.05, half_width=0.06, n=3), 9, "; about 9 seeds would, if it stays so"),
        (Estimate(mean=-0.05, half_width=0.06, n=3), None, ", and no number of seeds below 1,000 would"),
        (Estimate(mean=-0.05, half_width=None, n=2), None, ", which takes 3 seeds at least"),
    ],
)
def test_what_is_not_decided_says_how_it_looks_and_what_would_decide_it(
    difference: Estimate, seeds: int | None, more: str
) -> None:
    open_ = replace(EVIDENCE, difference=difference, decision=Decision(word="not decided", seeds=seeds))
    word, text = verdict(open_)
    assert word == "not decided" and text.startswith("Not decided: 0.050") and f"better than pre-norm{more};" in text


def test_equal_names_its_margin() -> None:
    small = Estimate(mean=-0.002, half_width=0.004, n=8)
    word, text = verdict(replace(EVIDENCE, difference=small, decision=Decision(word="equal")))
    assert word == "equal" and text.startswith("Equal to pre-norm within 0.01: -0.002 ± 0.004 (n = 8) nats a token")


def test_too_short_to_tell_is_not_called_not_training() -> None:
    short = {"kind": "too short to tell", "site": None, "layer": None, "figure": "validation loss 3.40", "seeds": 3}
    word, text = verdict(replace(EVIDENCE, trains=False, too_short=True, diagnosis=short))
    assert word == "too short to tell" and text.startswith("Too short to tell in 3 of 3 seeds: validation loss 3.40")


def test_an_arm_that_does_not_train_says_what_where_and_how_much() -> None:
    stuck = replace(
        EVIDENCE, trains=False, diagnosis={**STALLED, "seeds": 3}, loss=Estimate(mean=3.31, half_width=0.01, n=3)
    )
    word, text = verdict(stuck)
    assert word == "does not train"
    assert text == (
        "Stalled in 3 of 3 seeds, from sublayer 5 on: the loss stays at 3.30; mean loss 3.310 ± 0.010 (n = 3) "
        "nats a token."
    )


def test_a_baseline_that_does_not_train_is_called_so() -> None:
    assert verdict(replace(EVIDENCE, is_baseline=True))[0] == "baseline"
    stuck = replace(EVIDENCE, is_baseline=True, trains=False, diagnosis={**STALLED, "seeds": 2})
    assert verdict(stuck)[0] == "does not train"


def test_one_seed_that_failed_is_not_hidden() -> None:
    assert "1 of 3 seeds: stalled" in verdict(replace(EVIDENCE, diagnosis={**STALLED, "seeds": 1}))[1]


def test_against_a_diverged_baseline_nothing_is_claimed() -> None:
    nothing = Estimate(mean=-math.inf, half_width=None, n=3)
    unknown = Decision(word="not decided")
    word, text = verdict(
        replace(
            EVIDENCE,
            difference=nothing,
            difference_at_equal_time=nothing,
            decision=unknown,
            decision_at_equal_time=unknown,
        )
    )
    assert word == "not decided" and "gives nothing to compare with" in text and "not compared" in text


def test_without_a_run_there_is_no_verdict_on_the_scheme() -> None:
    word, text = verdict(replace(EVIDENCE, runs=0, trains=False))
    assert (word, text) == ("no run ended", "No run ended: nothing is known of it.")
