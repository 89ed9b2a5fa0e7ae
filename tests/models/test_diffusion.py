"""The diffusion Transformer: conditions reach it under any scheme, in either form."""

from __future__ import annotations

import pytest
import torch

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.layers.patches import PatchGrid
from addnorm.models.diffusion import DiffusionTransformer
from oracles.ties import randomise_

GRID = PatchGrid(height=8, width=8, channels=1, patch=4)
SHAPE = {"vocab_size": 4, "d_model": 16, "num_heads": 2, "num_layers": 2, "position": "learned"}
SCHEMES = ["pre-norm", "post-norm", "mhc", "attention-residuals", "by-layer", "n-gpt", "dca", "plain"]


def made(scheme: str = "pre-norm", **changes) -> DiffusionTransformer:
    model = DiffusionTransformer(schemes.parse(scheme), grid=GRID, **(SHAPE | changes)).double().eval()
    randomise_(model)
    return model


def given(count: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    noisy = torch.randn(count, 8, 8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noisy, torch.linspace(0.1, 0.9, count, dtype=torch.float64), torch.arange(count)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("conditioning", ["tokens", "modulation"])
def test_picture_time_and_class_each_change_the_whole_prediction(scheme, conditioning):
    model = made(scheme, conditioning=conditioning)
    noisy, times, labels = given()
    before = model(noisy, times, labels)
    assert before.shape == noisy.shape
    for other in ((noisy + 0.5, times, labels), (noisy, times + 0.05, labels), (noisy, times, (labels + 1) % 4)):
        changed = (model(*other) != before).flatten(1)
        assert changed.float().mean() > 0.9  # a ReLU-like output may be untouched here and there


@pytest.mark.parametrize("conditioning", ["tokens", "modulation"])
def test_pictures_of_a_batch_do_not_see_each_other(conditioning):
    model, (noisy, times, labels) = made(conditioning=conditioning), given()
    alone = torch.cat([model(noisy[i : i + 1], times[i : i + 1], labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(noisy, times, labels), alone)


def test_fresh_modulation_lets_nothing_through_the_sublayers():
    model = DiffusionTransformer(schemes.parse("pre-norm"), grid=GRID, conditioning="modulation", **SHAPE)
    noisy, times, labels = given()
    found = model(noisy.float(), times.float(), labels)
    embedded = model.stack.exit(model.embedding(noisy.float()))
    torch.testing.assert_close(found, GRID.joined(model.head(embedded)))


def test_fresh_modulation_learns_through_a_skip():
    model = DiffusionTransformer(schemes.parse("pre-norm"), grid=GRID, conditioning="modulation", **SHAPE)
    noisy, times, labels = given()
    for _ in range(2):  # the gates move first, then what they let through
        model(noisy.float(), times.float(), labels).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
    model(noisy.float(), times.float(), labels).square().mean().backward()
    # Keys' biases never count: the softmax forgets what is added to all of a query's scores.
    dead = [n for n, p in model.named_parameters() if not (p.grad != 0).any() and not n.endswith("k_proj.bias")]
    assert dead == []


def test_the_label_for_no_class_is_the_last():
    assert made().none == 3


def test_a_scheme_that_needs_a_batch_gets_one():
    scheme = schemes.parse("admin(growth=profile)")
    batch = tuple(t.float() if t.is_floating_point() else t for t in given())
    assert DiffusionTransformer(scheme, grid=GRID, calibration=batch, **SHAPE)(*batch).isfinite().all()


def test_an_unknown_conditioning_is_refused():
    with pytest.raises(UserError, match="did you mean 'tokens'"):
        made(conditioning="token")
