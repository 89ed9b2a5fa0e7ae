"""The vision Transformer: patches in, one row of logits an image out."""

from __future__ import annotations

import pytest
import torch

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.layers.context import Context
from addnorm.layers.patches import PatchGrid
from addnorm.models.vision import VisionTransformer
from oracles.ties import randomise_

GRID = PatchGrid(height=8, width=8, channels=1, patch=4)
SHAPE = {"vocab_size": 5, "d_model": 16, "num_heads": 2, "num_layers": 2}
SCHEMES = ["pre-norm", "post-norm", "mhc", "attention-residuals", "by-layer", "n-gpt", "plain"]


def made(scheme: str = "pre-norm", **changes) -> VisionTransformer:
    model = VisionTransformer(schemes.parse(scheme), grid=GRID, **(SHAPE | changes)).double().eval()
    randomise_(model)
    return model


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 8, 8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_every_pixel_of_an_image_counts_and_no_other_image_does(scheme, pooling):
    model = made(scheme, pooling=pooling)
    x = images().requires_grad_()
    logits = model(x)
    assert logits.shape == (3, 5)
    logits[1].square().sum().backward()
    assert (x.grad[1] != 0).all()
    assert (x.grad[[0, 2]] == 0).all()


def test_the_logits_are_the_head_of_the_mean_over_patches():
    model = made()
    hidden = model.stack(model.embedding(images()), Context())
    torch.testing.assert_close(model(images()), model.head(hidden.mean(1)))
    assert {site.side for site in model.stack.sites} == {"encoder"}


def test_with_a_class_token_the_head_reads_its_vector():
    model = made(pooling="class")
    token = model.class_token.weight.expand(3, 1, -1)
    hidden = model.stack(model.embedding(images(), token), Context())
    assert hidden.shape[1] == GRID.tokens + 1
    torch.testing.assert_close(model(images()), model.head(hidden[:, 0]))


@pytest.mark.parametrize(
    ("position", "sees_order"), [("learned", True), ("sinusoidal", True), ("rotary", True), ("none", False)]
)
def test_patches_that_change_places_are_seen_with_positions_only(position, sees_order):
    model = made(position=position)
    swapped = GRID.joined(GRID.cut(images()).flip(1))
    assert torch.allclose(model(swapped), model(images())) is not sees_order


def test_the_same_seed_gives_the_same_sublayers_under_every_scheme():
    one, other = (VisionTransformer(schemes.parse(name), grid=GRID, **SHAPE) for name in ("pre-norm", "mhc"))
    for a, b in zip(one.stack.blocks, other.stack.blocks, strict=True):
        for p, q in zip(a.sublayer.parameters(), b.sublayer.parameters(), strict=True):
            assert torch.equal(p, q)


def test_a_scheme_that_needs_a_batch_gets_one():
    with pytest.raises(UserError, match="a batch of images"):
        VisionTransformer(schemes.parse("admin(growth=profile)"), grid=GRID, **SHAPE)
    scheme, batch = schemes.parse("admin(growth=profile)"), images().float()
    model = VisionTransformer(scheme, grid=GRID, calibration=batch, **SHAPE)
    assert model(batch).isfinite().all()


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match="did you mean 'mean'"):
        made(pooling="means")
