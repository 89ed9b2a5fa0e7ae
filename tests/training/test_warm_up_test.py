"""Whether a run needs a warm-up."""

from __future__ import annotations

import pytest

from addnorm.config import RunConfig
from addnorm.training.warm_up_test import WarmUpTest, warm_up_test


@pytest.mark.parametrize(
    ("without", "with_ramp", "verdict"),
    [
        (2.5, 2.6, "not needed"),
        (3.3, 2.6, "needed"),
        (float("inf"), 2.6, "needed"),
        (3.3, 3.3, "stalls with one too"),
        (2.65, 2.6, "not needed"),
    ],
)
def test_the_verdict_is_that_of_the_losses(without: float, with_ramp: float, verdict: str) -> None:
    assert WarmUpTest(rate=0.01, without=without, with_ramp=with_ramp, chance=3.36).verdict == verdict


def test_at_a_high_rate_post_norm_needs_a_warm_up_and_pre_norm_does_not() -> None:
    found = {}
    for scheme in ("post-norm", "pre-norm"):
        config = RunConfig(scheme=scheme, d_model=32, num_heads=2, context=32, num_layers=4)
        found[scheme] = warm_up_test(config, 1e-2)
    assert found["post-norm"].verdict == "needed"
    assert found["pre-norm"].verdict == "not needed"
