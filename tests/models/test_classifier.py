from __future__ import annotations

from typing import Any

import pytest
import torch

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.models.classifier import TextClassifier

SHAPE = {"vocab_size": 40, "d_model": 16, "num_heads": 2, "num_layers": 3}


def build(scheme="pre-norm", **changes):
    given: dict[str, Any] = {"outputs": 3, "calibration": "later"} | SHAPE | changes
    return TextClassifier(schemes.parse(scheme), **given).eval()


def ids(*shape):
    return torch.randint(0, 40, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_padding_changes_nothing(pooling):
    model, tokens = build(pooling=pooling), ids(2, 7)
    padded = torch.cat([tokens, torch.full((2, 5), 39)], dim=1)
    keep = torch.arange(12).expand(2, 12) < 7
    short = model(tokens, torch.ones_like(tokens, dtype=torch.bool))
    # 1e-5: attention sums over another number of keys.
    assert torch.allclose(model(padded, keep), short, atol=1e-5)


def test_the_mean_is_over_real_tokens_and_first_is_the_first():
    tokens, keep = ids(1, 4), torch.tensor([[True, True, True, False]])
    hidden = build().body(tokens, keep)
    assert torch.allclose(build().vectors(tokens, keep), hidden[:, :3].mean(1))
    assert torch.equal(build(pooling="first").vectors(tokens, keep), hidden[:, 0])


def test_two_texts_are_encoded_by_the_same_weights_and_compared():
    model, tokens = build(texts=2), ids(5, 2, 6)
    keep = torch.ones_like(tokens, dtype=torch.bool)
    u, v = (model.vectors(tokens[:, side], keep[:, side]) for side in (0, 1))
    expected = model.head(torch.cat([u, v, (u - v).abs(), u * v], dim=-1))
    # 1e-5: products over ten rows at once, or over five.
    assert torch.allclose(model(tokens, keep), expected, atol=1e-5)


def test_frozen_layers_and_what_is_below_them_get_no_gradient():
    model, tokens = build(frozen=2), ids(2, 5)
    model(tokens, torch.ones_like(tokens, dtype=torch.bool)).sum().backward()
    layers = {site.layer: block for site, block in zip(model.body.stack.sites, model.body.stack.blocks, strict=True)}
    assert all(p.grad is None for part in (model.body.embedding, layers[0], layers[1]) for p in part.parameters())
    assert all(p.grad is not None for part in (layers[2], model.head) for p in part.parameters())


def test_segments_are_told_apart_where_the_shape_has_them():
    tokens = ids(1, 6)
    keep, segments = torch.ones_like(tokens, dtype=torch.bool), torch.tensor([[0, 0, 0, 1, 1, 1]])
    with_them, without = build(segments=2), build()
    assert not torch.allclose(with_them(tokens, keep, segments), with_them(tokens, keep))
    assert torch.equal(without(tokens, keep, segments), without(tokens, keep))


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match="pooling"):
        build(pooling="max")
