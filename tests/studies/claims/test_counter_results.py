"""A verdict can come out either way: each claim judges what its experiment would have had to find."""

from __future__ import annotations

import math

import pytest

from addnorm.studies import claims
from addnorm.studies.claim import Line
from addnorm.studies.claims.rezero_starts_faster import _first_below
from studies.claims.made_up import line

DEPTHS = (4.0, 16.0, 64.0)
STEPS = (0.0, 100.0, 200.0)


def flat(x):
    return 1.0


def rising(power):
    return lambda x: x**power


def verdicts(name, *cases, places=DEPTHS, **size):
    """The verdict on each case: functions of the place by line."""
    claim = claims.get(name)(**size)
    return [claim.judge({key: line(function, places) for key, function in case.items()}).verdict for case in cases]


YES_NO = ["reproduced", "not reproduced"]


def test_a_stream_that_does_not_grow_linearly_contradicts_peri_norm():
    cases = [{"peri-norm": rising(1), "pre-norm": flat}, {"peri-norm": rising(2), "pre-norm": flat}]
    assert verdicts("peri-norm-stream-grows-linearly", *cases) == YES_NO


def test_a_stream_that_grows_as_in_pre_norm_contradicts_layer_norm_scaling():
    cases = [{"layer-norm-scaling": rising(p), "pre-norm": rising(1)} for p in (0.2, 0.9)]
    assert verdicts("layer-norm-scaling-slows-stream-growth", *cases) == YES_NO


def test_a_growing_stream_contradicts_gpt2s_init():
    cases = [{"gpt2-init": rising(p), "pre-norm": rising(0.5)} for p in (0.02, 0.5)]
    assert verdicts("gpt2-init-bounds-the-stream", *cases) == YES_NO


def test_uneven_gradients_contradict_deep_norm():
    cases = [{"deep-norm": function, "post-norm": flat} for function in (flat, rising(-1))]
    assert verdicts("deep-norm-gradients-are-even", *cases) == YES_NO


def test_an_update_that_grows_contradicts_deep_norm():
    cases = [{"deep-norm": rising(p), "post-norm": rising(1), "biases": rising(0.5)} for p in (0.0, 0.6)]
    assert verdicts("deep-norm-update-is-bounded", *cases) == YES_NO
    assert verdicts("deep-norm-update-is-bounded", {"deep-norm": flat, "post-norm": flat, "biases": flat}) == YES_NO[1:]


def test_even_gradients_contradict_their_vanishing():
    cases = [{"post-norm": function, "b2t": flat} for function in (rising(-1), flat)]
    assert verdicts("post-norm-gradients-vanish-towards-the-entrance", *cases) == YES_NO


def test_branch_gradients_that_shrink_by_the_root_contradict():
    cases = [{"keel": rising(-1), "complete-p": rising(p), "pre-norm": flat} for p in (-1, -0.5)]
    assert verdicts("branch-gradients-shrink-as-one-over-depth", *cases) == YES_NO


def test_geometric_convergence_contradicts_a_doubly_exponential_one():
    cases = [
        {"plain": lambda x: 0.5 ** (3**x), "pre-norm": flat},
        {"plain": lambda x: 0.1 ** (x + 1), "pre-norm": flat},
    ]
    assert verdicts("skips-prevent-rank-collapse", *cases, places=(0, 1, 2, 3)) == YES_NO


def test_a_collapse_in_spite_of_skips_contradicts():
    case = {"plain": lambda x: 0.5 ** (3**x), "pre-norm": lambda x: 0.01}
    assert verdicts("skips-prevent-rank-collapse", case, places=(0, 1, 2, 3)) == ["not reproduced"]


def test_a_gain_that_grows_contradicts_mhc_and_one_that_does_not_contradicts_hcs_explosion():
    places = (1.0, 60.0)
    cases = [
        {"free": rising(2), "balanced": flat},
        {"free": rising(2), "balanced": rising(1)},
        {"free": flat, "balanced": flat},
    ]
    assert verdicts("mhc-bounds-the-composite-gain", *cases, places=places) == [*YES_NO, "not reproduced"]


def test_streams_that_stay_apart_contradict_homogenisation():
    cases = [
        {"free": lambda x: 0.5**x, "near-identity": lambda x: 0.99**x},
        {"free": lambda x: 0.99**x, "near-identity": lambda x: 0.99**x},
        {"free": lambda x: 0.5**x, "near-identity": rising(1)},
    ]
    assert verdicts("doubly-stochastic-products-homogenise", *cases) == [*YES_NO, "not reproduced"]


def test_scores_that_do_not_grow_contradict_the_need_of_qk_norm():
    cases = [{"none": rising(1), "rms": flat}, {"none": flat, "rms": flat}, {"none": rising(1), "rms": rising(1)}]
    assert verdicts("res-post-norm-needs-qk-norm", *cases) == [*YES_NO, "not reproduced"]


def test_a_variance_that_strays_contradicts():
    cases = [
        {"deep-scale-lm": flat, "beam": function, "muse-spark": flat, "pre-norm": rising(1)}
        for function in (flat, rising(0.1))
    ]
    assert verdicts("variance-preserving-sums-keep-unit-variance", *cases) == YES_NO


def test_large_branch_gradients_contradict_layer_scale():
    cases = [{"layer-scale": lambda x, at=at: at, "pre-norm": flat} for at in (1e-6, 0.5, 0.0)]
    assert verdicts("layer-scale-starts-near-the-identity", *cases) == [*YES_NO, "not reproduced"]


def losses(**ends):
    """Lines that fall from 5 to their ends."""
    return {name.replace("_", "-"): lambda x, end=end: 5.0 if x < STEPS[-1] else end for name, end in ends.items()}


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ({"post_norm": 3.3, "pre_norm": 2.8, "deep_norm": 2.8, "keel": 2.8, "rezero": 2.8}, "reproduced"),
        ({"post_norm": math.inf, "pre_norm": 2.8, "deep_norm": 2.8, "keel": 2.8, "rezero": 2.8}, "reproduced"),
        ({"post_norm": 2.8, "pre_norm": 2.8, "deep_norm": 2.8, "keel": 2.8, "rezero": 2.8}, "not reproduced"),
        ({"post_norm": 3.3, "pre_norm": 2.8, "deep_norm": 3.3, "keel": 2.8, "rezero": 2.8}, "not reproduced"),
        (
            {"post_norm": 3.3, "pre_norm": 3.3, "deep_norm": 3.3, "keel": 3.3, "rezero": 3.3},
            "not testable at this size",
        ),
    ],
)
def test_post_norm_that_trains_contradicts_and_so_does_another_that_stalls(ends, verdict):
    case = losses(**ends) | {"entropy": lambda x: 3.3}
    assert verdicts("post-norm-stalls-at-depth", case, places=STEPS) == [verdict]


@pytest.mark.parametrize(
    ("rezero", "verdict"), [(150.0, "not reproduced"), (50.0, "reproduced"), (math.inf, "not reproduced")]
)
def test_a_slower_rezero_contradicts(rezero, verdict):
    """Pre-LN reaches 4 after 100 steps; ReZero after `rezero`."""
    places = tuple(map(float, range(0, 201, 50)))
    case = {"rezero": lambda x: 4.0 if x >= rezero else 5.0, "pre-norm": lambda x: 4.0 if x >= 100 else 5.0}
    claim = claims.get("rezero-starts-faster")()
    made = {name: Line(label=name, points={x: (of(x),) * 3 for x in places}) for name, of in case.items()}
    assert claim.judge(made).verdict == verdict


def test_a_loss_is_reached_on_the_line_between_two_measurements():
    assert _first_below([(0, 5.0), (100, 3.0)], 4.0) == 50.0
    assert _first_below([(0, 5.0), (100, 4.5)], 4.0) == math.inf


def test_warm_up_that_gains_nothing_contradicts():
    cases = [
        losses(post_warm=3.0, post_cold=3.3, pre_warm=2.8, pre_cold=2.8),
        losses(post_warm=3.3, post_cold=3.0, pre_warm=2.8, pre_cold=2.8),
        losses(post_warm=3.0, post_cold=3.1, pre_warm=2.8, pre_cold=3.3),
    ]
    assert verdicts("post-norm-needs-warm-up", *cases, places=STEPS) == [*YES_NO, "not reproduced"]


@pytest.mark.parametrize("name", ["attention-residuals", "dense-former"])
def test_a_higher_loss_contradicts_and_a_wide_interval_cannot_tell(name):
    claim = claims.get(f"{name}-beat{'s' * (name == 'dense-former')}-pre-norm")()
    base = Line(label="", points={1: (2.0, 2.1, 2.2)})

    def judged(*ends):
        return claim.judge({name: Line(label="", points={1: ends}), "pre-norm": base}).verdict

    assert judged(1.95, 2.05, 2.15) == "reproduced"
    assert judged(2.05, 2.15, 2.25) == "not reproduced"
    assert judged(1.9, 2.2, 2.15) == "not testable at this size"


def test_a_rate_that_does_not_transfer_contradicts_and_one_that_always_does_cannot_tell():
    rates = (0.001, 0.01, 0.1)

    def best_at(best):
        return lambda rate: 2.0 + 0.1 * abs(math.log10(rate / best))

    cases = [
        {"shallow": best_at(0.1), "complete-p": best_at(0.1), "pre-norm": best_at(0.001)},
        {"shallow": best_at(0.1), "complete-p": best_at(0.001), "pre-norm": best_at(0.001)},
        {"shallow": best_at(0.1), "complete-p": best_at(0.1), "pre-norm": best_at(0.1)},
    ]
    found = verdicts("complete-p-transfers-the-learning-rate", *cases, places=rates)
    assert found == [*YES_NO, "not testable at this size"]


def test_a_batch_norm_that_does_not_care_contradicts():
    places = (1, 4, 16)
    cases = [{"layer": flat, "batch": function} for function in (lambda x: 1 + 1 / x, lambda x: 1.5, flat)]
    assert verdicts("batch-norm-needs-large-batches", *cases, places=places) == [*YES_NO, "not reproduced"]


def test_a_deletion_that_hurts_contradicts_and_a_plain_net_without_knowledge_cannot_tell():
    cases = [
        {"pre-norm": lambda x: 0.05, "plain": lambda x: 1.5},
        {"pre-norm": lambda x: 0.6, "plain": lambda x: 1.5},
        {"pre-norm": lambda x: 0.05, "plain": lambda x: math.nan},
    ]
    found = verdicts("single-layers-can-be-deleted", *cases, places=range(8))
    assert found == [*YES_NO, "not testable at this size"]


def test_a_skip_over_one_layer_that_helps_contradicts():
    others = {"2": lambda x: 0.2, "4": lambda x: 0.2, "none": lambda x: 0.5}
    cases = [{"1": lambda x, one=one: one} | others for one in (0.5, 0.2)]
    assert verdicts("a-skip-over-one-layer-brings-nothing", *cases, places=STEPS) == YES_NO
    useless = dict.fromkeys(("1", "2", "4", "none"), flat)
    assert verdicts("a-skip-over-one-layer-brings-nothing", useless, places=STEPS) == ["not reproduced"]
