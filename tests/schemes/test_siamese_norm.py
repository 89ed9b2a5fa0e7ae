"""SiameseNorm: its equation, and what each of its two streams does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack
from addnorm.layers.feedforward import FeedForward
from addnorm.schemes.siamese_norm import SiameseNorm
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from transcription import Parts, assert_agrees, norm


def equation(parts: Parts) -> Tensor:
    X = Y = parts.x
    for i, (F, p) in enumerate(zip(parts.F, parts.at, strict=True)):
        a = norm(X, p, "post_norm")
        o = F(norm(a + norm(Y, p, "pre_norm"), p, "input_norm"))
        X, Y = a + o * (2 * (i // 2 + 1)) ** -0.5, Y + o
    return norm(norm(X, parts.exit, "post_norm") + norm(Y, parts.exit, "pre_norm"), parts.exit, "norm")


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(SiameseNorm(norm=kind), equation)


def test_the_update_of_the_normalised_stream_shrinks_with_the_layer():
    found = [SiameseNorm().connection(8, site).divisor ** 2 for site in sites(6)]
    assert found == pytest.approx([2, 2, 4, 4, 6, 6])


def test_one_stream_is_the_plain_sum_of_all_updates_and_the_other_stays_of_one_size():
    torch.manual_seed(0)
    stack = Stack(SiameseNorm(), [FeedForward(16) for _ in range(24)], 16).eval()
    x = 3 * noise_like(torch.empty(20, 16))
    state, total = stack.entrance(x), x
    for block in stack.blocks:
        read, _ = block.connection.read(state)
        total = total + block.sublayer(read)
        state = block(state)
    torch.testing.assert_close(state[1], total, rtol=1e-5, atol=1e-5)  # float32 sums of 24 terms
    # A norm of size 1, and the last update over sqrt(24).
    assert state[0].square().mean().sqrt() < 1.3
    assert state[1].square().mean().sqrt() > 2
