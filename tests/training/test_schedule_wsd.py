from __future__ import annotations

import math

import pytest

from addnorm.errors import UserError
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder
from addnorm.training.schedule import FLOOR, factor


def test_wsd_warms_up_stays_and_falls_with_the_root_of_what_is_used_of_its_decay():
    shares = [factor(progress, 0.1, "wsd", 0.4) for progress in (0.05, 0.1, 0.3, 0.6, 0.7, 0.9, 1.0)]
    expected = [0.5, 1.0, 1.0, 1.0, *(FLOOR + (1 - FLOOR) * (1 - math.sqrt(v)) for v in (0.25, 0.75, 1.0))]
    assert shares == pytest.approx(expected)


def test_a_wsd_without_decay_is_constant():
    assert [factor(progress, 0.0, "wsd", 0.0) for progress in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_until_its_decay_a_longer_run_has_the_same_rates(tiny, tmp_path):
    rates = {}
    for steps in (20, 40):
        config = tiny(tokens=steps * 64, schedule="wsd", warm_up=4 / steps, decay=0.25, evaluations=1, signals=0)
        train(config, tmp_path / str(steps))
        rows = RunFolder(tmp_path / str(steps)).rows()
        rates[steps] = [row["learning_rate"] for row in rows if row["event"] == "train"]
    assert rates[20][:15] == pytest.approx(rates[40][:15])
    assert rates[20][15] < rates[40][15] == rates[40][29]
    assert rates[20][-1] == pytest.approx(FLOOR * 2e-3)


def test_warm_up_and_decay_fit_into_the_budget(tiny):
    with pytest.raises(UserError, match=r"decay=0\.7 and warm_up=0\.4 are more than the whole budget"):
        tiny(schedule="wsd", warm_up=0.4, decay=0.7)
    tiny(schedule="cosine", warm_up=0.4, decay=0.7)  # not used there
