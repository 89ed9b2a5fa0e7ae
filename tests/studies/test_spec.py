from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from addnorm.errors import UserError
from addnorm.studies.spec import CompareConfig, arms, compare_config, runs


def test_the_specification_needs_no_torch() -> None:
    code = "import addnorm.studies.spec, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"schemes": ("prenorm",)}, "did you mean 'pre-norm'"),
        ({"baseline": "nothing"}, "scheme 'nothing' is unknown"),
        ({"schemes": ()}, "schemes is empty"),
        ({"schemes": ("pre-norm", " pre-norm")}, "twice"),
        ({"layers": (2, 0)}, "layers=0"),
        ({"layers": (2, 2)}, "layers has 2 twice"),
        ({"layers": (2.5,)}, "whole number"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": 1.5}, "whole number"),
        ({"learning_rates": (-1e-3,)}, "learning_rates=-0.001"),
        ({"learning_rates": (float("nan"),)}, "learning_rates=nan"),
        ({"learning_rates": (float("inf"),)}, "learning_rates=inf"),
        ({"layers": (2, 4), "tokens": (1, 2, 3)}, "tokens has 3 values for 2 depths"),
        ({"seconds": (0.0,)}, "seconds=0.0"),
        ({"num_heads": 5}, "use 4 or 8"),
        ({"task": "chess"}, "task 'chess' is unknown"),
        ({"pick": "some"}, "pick 'some' is unknown"),
        ({"workers": 0}, "workers=0"),
        ({"activation": "tanh"}, "activation 'tanh' is unknown"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=".") as error:
        CompareConfig(**({"schemes": ("pre-norm", "post-norm"), "d_model": 32, "num_heads": 4} | values))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_field_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'layers'"):
        compare_config({"layer": 3})


def test_a_baseline_that_is_not_among_the_schemes_is_added() -> None:
    assert CompareConfig(schemes=("post-norm",), baseline="pre-norm").schemes == ("pre-norm", "post-norm")


def test_a_specification_comes_back_from_json() -> None:
    spec = CompareConfig(schemes=("pre-norm", "layer-scale(init=0.1)"), seconds=(1.0, 2.0))
    assert compare_config(json.loads(json.dumps(asdict(spec)))) == spec


def test_every_arm_is_trained_once_with_every_seed() -> None:
    spec = CompareConfig(
        schemes=("pre-norm", "post-norm", "plain"), layers=(2, 6), learning_rates=(1e-3, 3e-3), seeds=2, seed=5
    )
    planned = runs(spec)
    assert len(planned) == len({run.name for run in planned}) == 3 * 2 * 2 * 2
    assert {run.config.seed for run in planned} == {5, 6}
    assert {(r.config.scheme, r.config.num_layers, r.config.learning_rate) for r in planned} == {
        (arm.scheme, arm.layers, arm.learning_rate) for arm in arms(spec)
    }


def test_arms_of_a_seed_differ_in_nothing_but_the_arm() -> None:
    spec = CompareConfig(schemes=("pre-norm", "post-norm"), layers=(2, 6), tokens=(1000, 500))
    for run in runs(spec):
        values = asdict(run.config)
        same = {key: values[key] for key in values if key not in ("scheme", "num_layers", "seed", "tokens")}
        first = asdict(runs(spec)[0].config)
        assert same == {key: first[key] for key in same}
        assert run.config.tokens == {2: 1000, 6: 500}[run.arm.layers]


def test_the_order_interleaves_the_arms() -> None:
    spec = CompareConfig(schemes=("pre-norm", "post-norm", "plain"), layers=(2, 6), seeds=3)
    order = [(run.config.seed, run.arm.layers, run.arm.scheme) for run in runs(spec)]
    assert [seed for seed, _, _ in order] == [0] * 6 + [1] * 6 + [2] * 6
    # Each seed starts at another arm: no scheme is always the first, on the coolest machine.
    assert len({scheme for seed, layers, scheme in order[::6]}) == 3


def test_every_arm_has_a_folder_name_of_its_own() -> None:
    spec = CompareConfig(schemes=("pre-norm", "layer-scale(init=0.1)", "layer-scale( init=0.1)"), learning_rates=(0.1,))
    names = [arm.id for arm in arms(spec)]
    assert len(set(names)) == len(names)
    assert all("/" not in name and "(" not in name for name in names)
    assert names[0] == "pre-norm-L2-lr0.1"


def test_options_that_treat_all_arms_alike_reach_every_run() -> None:
    options = {"schedule": "wsd", "decay": 0.3, "accumulate": 2, "label_smoothing": 0.1, "ema": 0.9}
    planned = runs(CompareConfig(schemes=("pre-norm", "post-norm"), layers=(2,), seeds=1, **options))
    assert len(planned) == 2
    assert all(getattr(run.config, name) == value for run in planned for name, value in options.items())


def test_a_warm_up_that_leaves_no_room_for_the_decay_is_refused() -> None:
    with pytest.raises(UserError, match="decay=0.6 and warm_up=0.5 are more than the whole budget"):
        CompareConfig(schedule="wsd", decay=0.6)
