"""Admin: its equation, its closed forms, and its profile from a batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from addnorm import Encoder, EncoderDecoder, Stack, Transformer, UserError
from addnorm.schemes.admin import Admin
from addnorm.schemes.by_layer import ByLayer
from addnorm.testing.small_models import noise_like, small, tokens
from transcription import Parts, assert_agrees, norm, real_sublayers


def equation(parts: Parts) -> Tensor:
    x = parts.x
    for F, p in zip(parts.F, parts.at, strict=True):
        x = norm(p["omega"] * x + F(x), p, "norm")
    return x


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("growth", ["log", "constant", "linear"])
def test_it_is_its_equation(kind, growth):
    assert_agrees(Admin(norm=kind, growth=growth), equation)


@pytest.mark.parametrize(
    ("growth", "omega"),
    [
        # What admin-torch 0.1.0's calculate_init gives for 18 sublayers.
        ("log", 2.3351322),
        ("constant", 4.2426407),
        ("linear", 1.0),
    ],
)
def test_the_closed_forms_are_those_of_the_authors(growth, omega):
    stack = Stack(Admin(growth=growth), [nn.Identity() for _ in range(18)], 8)
    for block in stack.blocks:
        torch.testing.assert_close(block.connection.omega, torch.full((8,), omega))


def profile(stack: Stack, x: Tensor) -> list[float]:
    """The factors of a stack of fresh norms, by the sum over the earlier sublayers, from the definition."""
    factors, variance = [], 1.0
    for block in stack.blocks:
        factors.append(math.sqrt(variance))
        update = block.sublayer(x)
        variance += update.var(correction=0).item()
        x = factors[-1] * x + update
        x = (x - x.mean(-1, keepdim=True)) / x.var(-1, correction=0, keepdim=True).add(1e-5).sqrt()
    return factors


def test_the_profile_adds_up_the_variances_of_a_batch():
    torch.manual_seed(0)
    stack = Stack(Admin(growth="profile"), real_sublayers(3), 12, calibration="later").double()
    x = noise_like(torch.empty(4, 7, 12, dtype=torch.float64))
    stack.calibrate_(x)
    with torch.no_grad():
        expected = profile(stack, x)
    assert expected[0] == 1
    assert sorted(expected) == expected
    for block, omega in zip(stack.blocks, expected, strict=True):
        torch.testing.assert_close(block.connection.omega, torch.full((12,), omega, dtype=torch.float64))


@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
def test_no_factor_of_the_profile_is_below_one_however_small_the_embedding(size):
    torch.manual_seed(0)
    stack = Stack(Admin(growth="profile"), real_sublayers(3), 12, calibration="later").double()
    stack.calibrate_(size * noise_like(torch.empty(4, 7, 12, dtype=torch.float64)))
    factors = [block.connection.omega[0].item() for block in stack.blocks]
    assert factors[0] == 1
    assert sorted(factors) == factors


def test_without_a_batch_the_profile_is_refused_and_says_what_to_do():
    model = small(Admin(growth="profile"), calibration="later")
    with pytest.raises(UserError, match=r"calibrate_\(tokens\)"):
        model(tokens())
    model.calibrate_(tokens())
    assert model(tokens()).isfinite().all()
    model.initialise_(1)
    with pytest.raises(UserError, match="has seen none"):
        model(tokens())


def test_weights_of_a_calibrated_model_need_no_calibration():
    model = small(Admin(growth="profile"), calibration=tokens())
    other = small(Admin(growth="profile"), calibration="later")
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens()), other(tokens()))


def test_calibration_leaves_mode_random_state_and_all_else_as_they_were():
    shape = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 2, "dropout": 0.5}
    model = Transformer(Admin(growth="profile"), calibration="later", **shape)
    before = {name: p.clone() for name, p in model.named_parameters()}
    random_state = torch.get_rng_state()
    model.calibrate_(tokens())
    assert model.training and all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, parameter in model.named_parameters():
        assert name.endswith("omega") or torch.equal(parameter, before[name])


SHAPE = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 2}
PROFILE = Admin(growth="profile")


@pytest.mark.parametrize(
    "build",
    [
        lambda **given: Transformer(PROFILE, **SHAPE, **given),
        lambda **given: Encoder(PROFILE, **SHAPE, **given),
        lambda **given: EncoderDecoder(PROFILE, **SHAPE, **given),
        lambda **given: Stack(PROFILE, real_sublayers(1), 12, **given),
        lambda **given: Transformer(ByLayer(first=PROFILE, share=0.5), **SHAPE, **given),
    ],
    ids=["decoder", "encoder", "encoder-decoder", "stack", "first layers"],
)
def test_construction_without_a_batch_is_refused_and_says_what_to_change(build):
    with pytest.raises(UserError, match=r"pass calibration=.*growth=log"):
        build()
    with pytest.raises(UserError, match="'later'"):
        build(calibration="soon")
    assert all(tensor.isnan().any() == name.endswith("omega") for name, tensor in omegas(build(calibration="later")))
    with torch.device("meta"):
        assert all(tensor.is_meta for tensor in build().parameters())


def omegas(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in module.named_parameters() if name.endswith("omega")]


@pytest.mark.parametrize("body", [Transformer, Encoder])
def test_a_batch_at_construction_is_a_calibration_of_it(body):
    one, two = body(PROFILE, calibration=tokens(), **SHAPE), body(PROFILE, calibration="later", **SHAPE)
    two.calibrate_(tokens())
    for (name, a), (_, b) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert len({float(p.detach()[0]) for _, p in omegas(one)}) == 4


def test_an_encoder_decoder_is_calibrated_on_pairs():
    model = EncoderDecoder(PROFILE, calibration=(tokens(), tokens(seed=5)), **SHAPE)
    assert model(tokens(), tokens()).isfinite().all()
    # The decoder has three sublayers a layer; its factors grow with each, as the encoder's do.
    for stack in (model.encoder, model.decoder):
        factors = [float(p.detach()[0]) for _, p in omegas(stack)]
        assert factors[0] == 1
        assert sorted(factors) == factors
    with pytest.raises(UserError, match="source ids, target ids"):
        model.calibrate_(tokens())
    EncoderDecoder(Admin(), **SHAPE).calibrate_(tokens())  # has nothing to calibrate


def test_other_schemes_calibrate_nothing():
    model = small(Admin())
    before = [p.clone() for p in model.parameters()]
    model.calibrate_(tokens())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_unknown_growth_is_refused():
    with pytest.raises(UserError, match="growth"):
        Admin(growth="cubic")
