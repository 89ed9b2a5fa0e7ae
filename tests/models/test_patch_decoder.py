"""The autoregressive model of pictures: exact, causal, and drawn as it is scored."""

from __future__ import annotations

import itertools

import pytest
import torch

from addnorm import schemes
from addnorm.layers.patches import PatchGrid
from addnorm.models.patch_decoder import PatchDecoder, Within
from addnorm.models.sampling import Sampling
from oracles.ties import randomise_

SCHEMES = ["pre-norm", "post-norm", "mhc", "attention-residuals", "by-layer", "n-gpt"]


def made(scheme: str = "pre-norm", grid: PatchGrid | None = None, levels: int = 5) -> PatchDecoder:
    grid = grid or PatchGrid(height=4, width=4, channels=1, patch=2)
    shape = {"vocab_size": levels, "d_model": 16, "num_heads": 2, "num_layers": 2}
    model = PatchDecoder(schemes.parse(scheme), grid=grid, classes=3, within=Within(width=8), **shape)
    randomise_(model.double().eval())
    return model


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("patch", [1, 2])
def test_a_pixel_is_predicted_from_the_pixels_before_it_only(scheme, patch):
    model = made(scheme, PatchGrid(height=4, width=4, channels=1, patch=patch))
    levels = torch.randint(0, 5, (2, 4, 4, 1), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2])
    before = model(levels, labels).flatten(1, 2)
    places = model.grid.cut(torch.arange(16).reshape(1, 4, 4, 1)).flatten()
    for k in range(16):
        other = levels.flatten(1).clone()
        other[:, places[k]] = (other[:, places[k]] + 1) % 5
        changed = (model(other.reshape(levels.shape), labels).flatten(1, 2) != before).any(-1)
        assert not changed[:, : k + 1].any()
        assert changed[:, k + 1 :].all()


def test_the_class_counts_at_every_pixel():
    model, levels = made(), torch.zeros(1, 4, 4, 1, dtype=torch.long)
    one, other = (model(levels, torch.tensor([label])) for label in (0, 1))
    assert (one != other).any(-1).all()


def test_the_probabilities_of_all_pictures_add_up_to_one():
    grid = PatchGrid(height=2, width=2, channels=2, patch=1)
    model = made(grid=grid, levels=2)
    every = torch.tensor(list(itertools.product(range(2), repeat=8))).reshape(-1, 2, 2, 2)
    scores = model(every, torch.ones(len(every), dtype=torch.long)).log_softmax(-1)
    logs = scores.gather(-1, grid.cut(every)[..., None]).flatten(1).sum(1)
    assert logs.exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_picture_drawn_with_the_cache_is_the_one_that_the_whole_forward_finds_likeliest(scheme):
    model, labels = made(scheme), torch.tensor([0, 1, 2])
    drawn = model.generate(labels, Sampling())
    assert torch.equal(model(drawn, labels).argmax(-1), model.grid.cut(drawn))


def test_draws_have_the_frequencies_that_the_model_states():
    model = made(grid=PatchGrid(height=2, width=2, channels=1, patch=2), levels=3)
    labels = torch.ones(20_000, dtype=torch.long)
    drawn = model.generate(labels, Sampling(temperature=1.0, generator=torch.Generator().manual_seed(0)))
    stated = model(drawn[:1], labels[:1])[0, 0, 0].softmax(-1)
    found = drawn[:, 0, 0, 0].bincount(minlength=3) / len(drawn)
    torch.testing.assert_close(found.double(), stated, rtol=0, atol=0.018)  # five standard errors of a share


def test_both_stacks_have_the_scheme():
    model = made("mhc")
    assert model.stack.scheme == model.within.scheme == schemes.parse("mhc")


def test_a_scheme_that_needs_a_batch_gets_one():
    grid = PatchGrid(height=4, width=4, channels=1, patch=2)
    batch = torch.randint(0, 5, (4, 4, 4, 1)), torch.tensor([0, 1, 2, 0])
    model = PatchDecoder(
        schemes.parse("admin(growth=profile)"),
        grid=grid,
        classes=3,
        calibration=batch,
        vocab_size=5,
        d_model=16,
        num_heads=2,
        num_layers=2,
    )
    assert model(*batch).isfinite().all()
