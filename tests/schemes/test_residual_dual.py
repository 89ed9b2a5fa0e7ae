"""ResiDual: its equation, its scale, and the gradient that passes no norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.layers.feedforward import FeedForward
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.residual_dual import Dual, ResiDual
from addnorm.testing.small_models import noise_like
from transcription import Parts, assert_agrees, norm


def equation(scale: float):
    def compute(parts: Parts) -> Tensor:
        x, written = parts.x, [parts.x]
        for F, p in zip(parts.F, parts.at, strict=True):
            y = F(x)
            x = norm(x + y, p, "norm")
            written.append(y)
        return x + norm(scale * sum(written), parts.exit, "total_norm")

    return compute


@pytest.mark.parametrize(("kind", "scale"), [("layer", 1.0), ("rms", 0.25)])
def test_it_is_its_equation(kind, scale):
    assert_agrees(ResiDual(norm=kind, scale=scale), equation(scale))


def sublayers(number: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [FeedForward(8) for _ in range(number)]


def test_the_scale_changes_nothing_but_the_size_of_the_sum():
    one, two = (Stack(ResiDual(scale=scale), sublayers(4), 8).double() for scale in (1.0, 0.125))
    for stack in (one, two):
        stack.exit.total_norm.eps = 0.0
    x = noise_like(torch.empty(5, 8, dtype=torch.float64))
    torch.testing.assert_close(one(x), two(x), rtol=1e-12, atol=1e-12)


def test_without_the_sum_it_is_post_norm():
    dual, post = Stack(ResiDual(), sublayers(4), 8), Stack(PostNorm(), sublayers(4), 8)
    nn.init.zeros_(dual.exit.total_norm.weight)
    x = noise_like(torch.empty(5, 8))
    assert torch.equal(dual(x), post(x))


def test_no_sublayer_reads_the_sum():
    connection = ResiDual().connection(8, Stack(ResiDual(), sublayers(2), 8).sites[0])
    x, total = (noise_like(torch.empty(5, 8), seed) for seed in (1, 2))
    assert torch.equal(connection.read(Dual(x, total))[0], connection.read(Dual(x, 7 * total))[0])


def test_a_scale_of_zero_is_refused():
    with pytest.raises(UserError, match="scale=0 is not allowed"):
        ResiDual(scale=0)
