from __future__ import annotations

import pytest
import torch

from addnorm.config import ModelConfig
from addnorm.errors import UserError
from addnorm.layers.patches import PatchEmbedding, PatchGrid

GRID = PatchGrid(height=6, width=4, channels=3, patch=2)


def test_joining_undoes_cutting():
    images = torch.randn(5, 6, 4, 3)
    assert torch.equal(GRID.joined(GRID.cut(images)), images)


def test_patches_come_from_left_to_right_and_from_top_to_bottom():
    images = torch.arange(6 * 4 * 3).reshape(1, 6, 4, 3)
    patches = GRID.cut(images)
    assert patches.shape == (1, GRID.tokens, GRID.values) == (1, 6, 12)
    assert torch.equal(patches[0, 1], images[0, 0:2, 2:4].flatten())
    assert torch.equal(patches[0, 2], images[0, 2:4, 0:2].flatten())


def test_the_embedding_is_a_linear_map_of_each_patch_plus_its_position():
    config = ModelConfig(vocab_size=2, d_model=8, num_heads=2, num_layers=1, position="learned")
    embedding = PatchEmbedding(GRID, config)
    images, before = torch.randn(2, 6, 4, 3), torch.randn(2, 1, 8)
    found = embedding(images, before)
    expected = GRID.cut(images) @ embedding.linear.weight.T + embedding.linear.bias + embedding.positions.table.weight
    torch.testing.assert_close(found, torch.cat((before, expected), dim=1))


def test_a_patch_that_does_not_divide_the_image_is_refused_with_those_that_do():
    with pytest.raises(UserError, match="patch=3 does not divide images of 6 x 4 pixels; use 1, 2"):
        PatchGrid(height=6, width=4, channels=1, patch=3)


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"\(2, 4, 6, 3\)"):
        GRID.check(torch.zeros(2, 4, 6, 3))
