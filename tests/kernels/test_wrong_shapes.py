"""C++ is given addresses: what has another shape than it expects must never reach it."""

from __future__ import annotations

import pytest
import torch

from addnorm import schemes
from addnorm.kernels.add_norm import add_norm
from addnorm.kernels.depth_history import begin
from addnorm.kernels.few_rows import few_rows
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.kernels.rotary import turned
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.norm import LayerNorm, RMSNorm
from addnorm.layers.route import Equations
from addnorm.layers.route import begin as begin_route
from addnorm.stack import sites


def connection(text, d_model=8, place=1):
    return schemes.parse(text).connection(d_model, sites(4)[place])


@pytest.mark.parametrize("shape", [(2, 5, 3, 8), (2, 5, 4, 9), (2, 5, 5, 8), (8,)], ids=str)
def test_mhc_refuses_streams_that_its_weights_are_not_made_for(shape):
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        connection("mhc").read(torch.randn(shape))


def test_mhc_refuses_an_update_of_another_width():
    sites, streams = [connection("mhc", place=place) for place in (1, 2)], torch.randn(2, 5, 4, 8)
    for route in (begin_route(sites, streams), begin_route(sites[:1], streams), Equations(sites[:1])):
        route.enter(streams)
        for shape in ((2, 5, 9), (2, 6, 8)):
            with pytest.raises(RuntimeError):
                route.follow(torch.randn(shape)) or route.leave(torch.randn(shape))


@pytest.mark.parametrize("layer", [LayerNorm(8), RMSNorm(8)], ids=["LayerNorm", "RMSNorm"])
def test_a_norm_refuses_another_width(layer):
    with pytest.raises(RuntimeError):
        layer(torch.randn(3, 9))


def test_add_and_norm_refuses_a_gain_of_another_width():
    x = torch.randn(3, 8)
    with pytest.raises(RuntimeError):
        add_norm(x, x, torch.ones(9), None, NormOfSum(eps=1e-5, centred=True))
    with pytest.raises(RuntimeError):
        add_norm(x, torch.randn(3, 9), torch.ones(8), None, NormOfSum(eps=1e-5, centred=True))


def test_a_turn_refuses_angles_of_another_length_or_width():
    for shape in ((6, 4), (5, 3), (3, 5, 4)):
        with pytest.raises(RuntimeError):
            turned(torch.randn(shape), torch.randn(2, 2, 5, 8))


def test_a_map_of_few_rows_refuses_another_width():
    with torch.no_grad(), pytest.raises(RuntimeError):
        few_rows(torch.randn(1, 9), torch.randn(4, 8), None)
    with torch.no_grad(), pytest.raises(RuntimeError):
        FeedForward(8).eval()(torch.randn(1, 1, 9))


def test_a_history_is_not_begun_with_sources_or_queries_of_other_shapes():
    one, other = torch.randn(2, 5, 8), torch.randn(2, 5, 9)
    assert begin([one], [torch.randn(8)], 1e-6) is not None
    assert begin([one, other], [torch.randn(8)], 1e-6) is None
    assert begin([one], [torch.randn(9)], 1e-6) is None


def test_attention_residuals_refuse_an_update_of_another_width():
    sites, state = [connection("attention-residuals", place=place) for place in range(4)], (torch.randn(2, 5, 8),)
    route = begin_route([*sites, schemes.parse("attention-residuals").exit(8)], state)
    route.enter(state)
    with pytest.raises(RuntimeError):
        route.follow(torch.randn(2, 5, 9))
