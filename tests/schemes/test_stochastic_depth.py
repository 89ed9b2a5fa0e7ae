"""Stochastic depth around a scheme: masks by sample in training, nothing in evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError, schemes
from addnorm.schemes.deep_norm import DeepNorm
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.schemes.stochastic_depth import StochasticDepth
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like, small, tokens
from transcription import Parts, assert_agrees, norm


def last_connection(p_max: float, inner=None):
    """The connection of the last of two sites, whose probability is `p_max`."""
    scheme = StochasticDepth(p_max=p_max, inner=inner or PreNorm())
    return scheme.connection(4, sites(2)[1])


def test_in_evaluation_it_is_the_inner_scheme():
    def equation(parts: Parts) -> Tensor:
        x = parts.x
        for F, p in zip(parts.F, parts.at, strict=True):
            x = x + F(norm(x, p, "inner.norm"))
        return norm(x, parts.exit, "norm")

    assert_agrees(StochasticDepth(p_max=0.5), equation)


@pytest.mark.parametrize(("depth", "expected"), [(4, [0.0, 0.1, 0.2, 0.3]), (2, [0.0, 0.3]), (1, [0.0])])
def test_the_probability_grows_linearly_from_zero_to_its_largest(depth, expected):
    stack = Stack(StochasticDepth(p_max=0.3), [nn.Identity() for _ in range(depth)], 4)
    assert [block.connection.probability for block in stack.blocks] == pytest.approx(expected)


def test_each_sample_is_dropped_whole_or_rescaled_whole():
    torch.manual_seed(0)
    connection = last_connection(0.25)
    skip = noise_like(torch.empty(500, 3, 4))
    update = noise_like(skip, seed=4)
    change = (connection.write(skip, update) - skip) / update
    kept = change.mean((1, 2)) > 0.5
    # 1e-3: subtracting the skip again leaves a rounding error, largest where the update is small.
    assert change[~kept].abs().max() < 1e-3
    assert (change[kept] - 1 / 0.75).abs().max() < 1e-2
    # 500 draws: a standard deviation is 0.02.
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.06)


def test_the_expectation_of_the_update_is_the_update():
    torch.manual_seed(0)
    connection, samples = last_connection(0.5), 20_000
    update = torch.tensor([1.0, -2.0, 0.5, 3.0]).expand(samples, 1, 4)
    mean = connection.write(torch.zeros(samples, 1, 4), update).mean((0, 1))
    # The mask has variance 1, so the mean a relative standard deviation of 0.007; four of them.
    torch.testing.assert_close(mean, update[0, 0], rtol=0.03, atol=0.0)


def test_a_first_site_and_evaluation_draw_nothing():
    model, inner = small(StochasticDepth(p_max=0.9)), small(PreNorm())
    state = torch.get_rng_state()
    assert torch.equal(model(tokens()), inner(tokens()))
    assert torch.equal(torch.get_rng_state(), state)
    first = StochasticDepth(p_max=0.9).connection(4, sites(3)[0])
    update = torch.randn(50, 4)
    assert torch.equal(first.write(torch.zeros(50, 4), update), update)


def test_training_differs_by_draw_and_repeats_by_seed():
    model = small(StochasticDepth(p_max=0.5)).train()
    outcomes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outcomes.append(model(tokens(16)))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


def test_a_skipped_sample_is_still_normalised_by_post_norm():
    connection = last_connection(0.999, PostNorm())
    torch.manual_seed(0)
    written = connection.write(5 * noise_like(torch.empty(3, 4)), torch.zeros(3, 4))
    # 1e-4: the norm's eps.
    torch.testing.assert_close(written.square().mean(-1), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_the_inner_schemes_initialisation_and_exit_are_kept():
    model, inner = small(StochasticDepth(inner=DeepNorm())), small(DeepNorm())
    assert torch.equal(model(tokens()), inner(tokens()))
    assert isinstance(model.stack.exit.norm, nn.Identity)


def test_norm_and_drawing_follow_the_inner_scheme():
    scheme = schemes.parse("stochastic-depth(inner=post-norm(norm=rms))")
    assert scheme.norm == "rms"
    assert scheme.diagram == "fork sublayer scale:b add box:n"
    assert StochasticDepth.diagram == StochasticDepth().diagram == "fork box:n sublayer scale:b add"
    with pytest.raises(UserError, match="field of stochastic-depth 'norm' is unknown"):
        schemes.parse("stochastic-depth(norm=rms)")


def test_impossible_fields_are_refused():
    with pytest.raises(UserError, match="p_max=1.0 is not allowed"):
        StochasticDepth(p_max=1.0)
    with pytest.raises(UserError, match="inner=pre-nrm: scheme 'pre-nrm' is unknown; did you mean 'pre-norm'"):
        schemes.parse("stochastic-depth(inner=pre-nrm)")
