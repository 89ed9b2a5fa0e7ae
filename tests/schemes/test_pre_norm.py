"""Pre-LN, and Post-LN beside it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from addnorm import Scheme, Transformer
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import tokens
from transcription import Parts, assert_agrees, norm, pre_norm


def post(parts: Parts) -> Tensor:
    x = parts.x
    for F, p in zip(parts.F, parts.at, strict=True):
        x = norm(x + F(x), p, "norm")
    return x


@pytest.mark.parametrize("kind", ["layer", "rms", "none"])
@pytest.mark.parametrize(("scheme", "equation"), [(PreNorm, pre_norm), (PostNorm, post)])
def test_it_is_its_equation(scheme, equation, kind):
    assert_agrees(scheme(norm=kind), equation)


def last_gradient(scheme: Scheme, num_layers: int) -> float:
    """The norm of the gradient of the last feed-forward's output projection before training, mean of four seeds."""
    norms = []
    for seed in range(4):
        size = {"vocab_size": 11, "d_model": 32, "num_heads": 4, "num_layers": num_layers}
        model = Transformer(scheme, seed=seed, **size)
        logits = model(tokens(8, 16, seed))
        functional.cross_entropy(logits.flatten(0, 1), tokens(8, 16, seed + 100).flatten()).backward()
        norms.append(model.stack.blocks[-1].sublayer.fc2.weight.grad.norm())
    return float(torch.stack(norms).mean())


def test_the_last_gradient_falls_with_depth_under_pre_norm_and_not_under_post_norm():
    # Xiong et al. 2020: as 1/sqrt(L), so by half over four times the depth; the bounds leave room for four seeds.
    assert 0.35 < last_gradient(PreNorm(), 16) / last_gradient(PreNorm(), 4) < 0.75
    assert last_gradient(PostNorm(), 16) / last_gradient(PostNorm(), 4) > 0.9
