"""AltUp: alternating selection, its start, its entrance; `oracles/stream_layers.py` holds it against Gemma 3n."""

from __future__ import annotations

import pytest
import torch

from addnorm import Stack, UserError
from addnorm.layers.feedforward import FeedForward
from addnorm.schemes.altup import AltUp
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like


def test_the_active_stream_alternates_if_asked():
    for select, expected in (("same", [0, 0, 0, 0, 0, 0]), ("alternating", [0, 1, 2, 0, 1, 2])):
        scheme = AltUp(streams=3, select=select)
        assert [int(scheme.connection(8, site).active) for site in sites(6)] == expected


def test_the_sublayer_reads_the_active_stream():
    connection = AltUp(streams=3, select="alternating").connection(8, sites(6)[4])
    with torch.no_grad():
        connection.prediction.zero_()
    streams = noise_like(torch.empty(2, 3, 8))
    torch.testing.assert_close(connection.read(streams)[0], connection.norm(streams[:, 1]))


def test_it_starts_near_one_update_for_every_stream():
    torch.manual_seed(0)
    connection = AltUp().connection(64, sites(2)[0])
    streams, update = noise_like(torch.empty(5, 4, 64)), noise_like(torch.empty(5, 64))
    _, predicted = connection.read(streams)
    # The router's tanh is near 0.02 / sqrt(64), and its maps have std 0.02: products near 5e-5.
    torch.testing.assert_close(predicted, streams, rtol=0.0, atol=2e-3)
    torch.testing.assert_close(connection.write(predicted, update), streams + update.unsqueeze(1), rtol=0.0, atol=4e-3)


def test_all_streams_enter_with_the_size_of_the_embedding():
    x = torch.tensor([0.1, 1.0, 30.0])[:, None] * noise_like(torch.empty(3, 32))
    state = AltUp().entrance(32)(x)
    size = state.square().mean(-1).sqrt()
    # The smallest is held by the least square of 1e-5 of what is projected.
    torch.testing.assert_close(size[1:], size[1:, :1].expand(2, 4))
    assert not torch.allclose(state[:, 1], state[:, 2])


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong, text in (
        ({"streams": 1}, "streams=1 is not allowed"),
        ({"select": "last"}, "select 'last' is unknown"),
        ({"std": 0.0}, "std=0.0 is not allowed"),
    ):
        with pytest.raises(UserError, match=text):
            AltUp(**wrong)


@pytest.mark.parametrize("stream", range(4))
def test_every_stream_counts(stream):
    """The others hold what the exit reads; of what they hold the sublayers see only what prediction mixes in."""
    torch.manual_seed(0)
    stack = Stack(AltUp(std=0.5), [FeedForward(8) for _ in range(4)], 8)
    streams = noise_like(torch.empty(3, 4, 8))
    other = streams.clone()
    other[:, stream] += noise_like(torch.empty(3, 8), seed=6)
    outcomes = []
    for state in (streams, other):
        for block in stack.blocks[2:]:
            state = block(state)
        outcomes.append(stack.exit(state))
    assert (outcomes[0] - outcomes[1]).abs().max() > 1e-2
