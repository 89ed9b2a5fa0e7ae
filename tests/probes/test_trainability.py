from __future__ import annotations

import pytest
import torch
from torch import nn

import addnorm
from addnorm import schemes
from addnorm.probes.signal import SignalFlow
from addnorm.probes.trainability import Thresholds, assess, site_of

ENTROPY = 3.3
SUBLAYERS = 6


def losses(*values):
    return [{"event": "validation", "step": 10 * i, "loss": loss} for i, loss in enumerate(values)]


def signals(*profiles, weights=None):
    weights = weights or [0.1] * SUBLAYERS
    return [
        {"event": "signal", "step": 10 * i, "state_grad_norm": profile, "weight_grad_norm": weights}
        for i, profile in enumerate(profiles)
    ]


def skips(*steps, layer="stack.blocks.3.sublayer.fc1.weight"):
    return [{"event": "skipped", "step": step, "grad_norm": "nan", "layer": layer} for step in steps]


FLAT = [1.0] * (SUBLAYERS + 1)
FALLING = [1e-9, 1e-7, 1e-5, 1e-4, 1e-2, 0.1, 1.0]
GROWING = [1e9, 1e7, 1e5, 1e4, 1e2, 10.0, 1.0]


def end(status):
    return [{"event": "end", "step": 99, "status": status}]


def test_a_healthy_run_trains():
    found = assess(losses(6.0, 3.3, 2.5) + signals(FLAT, FLAT) + end("finished"), ENTROPY)
    assert (found.kind, found.site, found.layer) == ("trains", None, None)
    assert found.figure == "validation loss 2.50, unigram entropy 3.30"


def test_frozen_layers_have_no_vanishing_gradients():
    frozen = [0.0, 0.0, 0.0, *FLAT[3:]]  # two sublayers, and the state that the first trained one reads
    weights = ["nan", "nan", *[0.1] * (SUBLAYERS - 2)]
    assert assess(losses(6.0, 2.5) + signals(frozen, frozen, weights=weights), ENTROPY).kind == "trains"
    dead = assess(losses(6.0, 2.5) + signals(frozen, frozen), ENTROPY)
    assert (dead.kind, dead.site) == ("vanishing gradients", 2)


def test_overfitting_is_not_divergence():
    assert assess(losses(6.0, 2.0, 3.1), ENTROPY).kind == "trains"


@pytest.mark.parametrize("final", [3.25, 3.3, 3.35, 3.7])
def test_a_loss_that_stays_at_the_unigram_entropy_is_stalled(final):
    found = assess(losses(6.0, 3.7, final, final, final) + signals(FLAT), ENTROPY)
    assert (found.kind, found.site) == ("stalled", None)
    assert found.figure == f"validation loss {final:.2f}, unigram entropy 3.30"


def test_a_stalled_run_says_what_its_gradients_do():
    found = assess(losses(6.0, 3.31, 3.3) + signals(FALLING, FALLING), ENTROPY)
    assert (found.kind, found.site, found.layer) == ("stalled", 3, "blocks.3")
    assert (
        "unigram entropy 3.30; vanishing gradients: the state's gradient falls by a factor of 1.0e+09" in found.figure
    )


@pytest.mark.parametrize("last", [(4.5, 4.2, 4.0), (3.5, 3.4, 3.33), (3.4, 3.3, 3.25)])
def test_a_loss_that_still_falls_is_too_short_to_tell_far_above_the_entropy_and_near_it(last):
    found = assess(losses(6.0, 5.0, *last), ENTROPY)
    assert found.kind == "too short to tell" and found.figure.endswith(", and still falling")


def test_a_loss_that_settles_on_the_entropy_is_stalled_and_one_that_passes_it_is_not():
    # Two runs of 24 layers: plain, and the one seed in five of DeepNorm that was late. The entropy was 3.343.
    assert assess(losses(6.18, 4.3, 3.421, 3.374, 3.366, 3.351), 3.343).kind == "stalled"
    assert assess(losses(6.34, 4.1, 3.411, 3.373, 3.363, 3.282), 3.343).kind == "too short to tell"


def test_a_run_that_was_too_short_still_says_what_its_gradients_do():
    found = assess(losses(6.0, 5.0, 4.5, 4.2) + signals(FALLING, FALLING), ENTROPY)
    assert (found.kind, found.site) == ("too short to tell", 3) and "vanishing gradients" in found.figure


def test_a_loss_that_has_arrived_is_stalled_far_above_the_entropy_and_near_it():
    for last in (3.31, 4.5):
        assert assess(losses(6.0, last + 0.3, last + 0.01, last + 0.005, last), ENTROPY).kind == "stalled"


def test_a_loss_that_was_measured_once_tells_nothing_unless_it_is_low():
    assert assess(losses(3.3), ENTROPY).kind == assess(losses(9.0), ENTROPY).kind == "too short to tell"
    assert assess(losses(2.9), ENTROPY).kind == "trains"


def test_gradients_that_vanish_are_named_where_it_begins():
    found = assess(losses(6.0, 2.5) + signals(FALLING, FALLING), ENTROPY)
    assert (found.kind, found.site, found.layer) == ("vanishing gradients", 3, "blocks.3")
    assert found.figure == "the state's gradient falls by a factor of 1.0e+09 from the exit down"


def test_gradients_that_vanish_entirely_have_no_factor():
    found = assess(losses(6.0, 2.5) + signals([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]), ENTROPY)
    assert (found.kind, found.site) == ("vanishing gradients", 1)
    assert found.figure == "the state's gradient falls to exactly 0 from the exit down"


def test_gradients_that_explode_are_named_where_it_begins():
    found = assess(losses(6.0, 2.5) + signals(GROWING, GROWING), ENTROPY)
    assert (found.kind, found.site) == ("exploding gradients", 2)
    assert found.figure == "the state's gradient grows by a factor of 1.0e+09 from the exit down"


@pytest.mark.parametrize("bad", [FALLING, GROWING])
def test_a_run_that_recovers_or_stumbles_once_trains(bad):
    assert assess(losses(6.0, 2.5) + signals(bad, bad, bad, FLAT), ENTROPY).kind == "trains"
    assert assess(losses(6.0, 2.5) + signals(FLAT, FLAT, FLAT, bad), ENTROPY).kind == "trains"


def test_a_measurement_with_nothing_in_it_is_passed_over():
    broken = ["nan"] * (SUBLAYERS + 1)
    rows = losses(6.0, 2.5) + signals([0.0] * (SUBLAYERS + 1), broken, FALLING)
    assert assess(rows, ENTROPY).kind == "vanishing gradients"


def test_weights_without_gradient_are_named_after_the_first_step_only():
    dead = [0.1, 0.0, 1e-9, 0.1, 0.1, 0.1]
    first, later = signals(FLAT, FLAT, weights=dead)
    assert assess([*losses(6.0, 2.5), first], ENTROPY).kind == "trains"  # zero-initialised gates begin like this
    found = assess([*losses(6.0, 2.5), first, later], ENTROPY)
    assert (found.kind, found.site) == ("vanishing gradients", 2)
    assert found.figure == "2 sublayers have a weight gradient of 1.0e-09 or less"
    alive = signals(FLAT, FLAT)[1]
    assert assess([*losses(6.0, 2.5), later, alive], ENTROPY).kind == "trains"  # dropped in one step


def test_a_sublayer_without_weights_is_not_dead():
    weights = ["nan", 0.1, 0.1, 0.1, 0.1, 0.1]
    assert assess(losses(6.0, 2.5) + signals(FLAT, FLAT, weights=weights), ENTROPY).kind == "trains"


def test_skipped_steps_are_exploding_gradients_even_if_the_run_goes_on():
    found = assess(losses(6.0, 2.5) + skips(12, 30), ENTROPY)
    assert (found.kind, found.site, found.layer) == ("exploding gradients", 3, "stack.blocks.3.sublayer.fc1.weight")
    assert found.figure.startswith("2 steps skipped for a non-finite gradient, the first at step 12 in stack.blocks.3")


def test_a_run_that_was_stopped_diverged_at_the_steps_in_a_row():
    rows = losses(6.0, 5.0) + skips(3, layer="stack.blocks.0.sublayer") + skips(12, 13, 14) + end("diverged")
    found = assess(rows, ENTROPY)
    assert (found.kind, found.site) == ("diverged", 3)
    assert found.figure.startswith("3 steps in a row with a non-finite gradient, from step 12 on")


@pytest.mark.parametrize("final", [5.2, float("nan"), "nan", "inf"])
def test_a_loss_that_rises_above_the_unigram_entropy_diverged(final):
    found = assess(losses(6.0, 4.5, final), ENTROPY)
    assert found.kind == "diverged"
    assert found.figure == f"validation loss rose from 4.50 to {float(final):.2f}"


def test_nothing_measured_is_nothing_wrong():
    assert assess([], ENTROPY).kind == "trains"


def test_thresholds_may_be_chosen():
    rows = losses(6.0, 2.5) + signals([0.05, *FLAT[1:]])
    assert assess(rows, ENTROPY).kind == "trains"
    assert assess(rows, ENTROPY, Thresholds(fall=10)).kind == "vanishing gradients"


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("stack.blocks.12.connection.norm.weight", 12),
        ("blocks.0", 0),
        ("embedding.tokens.weight", None),
        ("subblocks.3.x", None),
    ],
)
def test_the_site_is_in_the_name(name, site):
    assert site_of(name) == site


def measured(scheme: str, num_layers: int, steps: int) -> list[dict]:
    """Signal rows of a short training on random tokens."""
    model = addnorm.Transformer(schemes.parse(scheme), vocab_size=31, d_model=16, num_heads=2, num_layers=num_layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(31, (2, 17), generator=torch.Generator().manual_seed(0))
    rows = []
    for step in range(steps):
        with SignalFlow(model.stack) as flow:
            loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
        rows.append({"event": "signal", "step": step} | flow.forward_and_backward())
        optimizer.step()
        optimizer.zero_grad()
    return rows


HEALTHY = ("pre-norm", "deep-norm", "rezero", "layer-scale", "keel", "peri-norm", "mhc", "attention-residuals")


@pytest.mark.parametrize("scheme", HEALTHY)
def test_deep_stacks_of_healthy_schemes_are_named_healthy(scheme):
    assert assess(measured(scheme, 24, 3), ENTROPY).kind == "trains"


def test_no_skips_over_many_sublayers_are_named_vanishing():
    rows = measured("plain(norm=none)", 24, 3)
    found = assess(rows, ENTROPY)
    assert found.kind == "vanishing gradients"
    assert found.site is not None and 10 < found.site < 48
    assert assess(measured("plain(norm=none)", 2, 3), ENTROPY).kind == "trains"
