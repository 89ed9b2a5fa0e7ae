"""DeepScaleLM: its equation, its initial values, and the variances they keep."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from addnorm import Encoder, Stack, UserError
from addnorm.residual import Site
from addnorm.schemes.deep_scale_lm import DeepScaleLM
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import small
from transcription import Equation, Parts, assert_agrees, norm, real_sublayers


def equation(beta_squared: float) -> Equation:
    def compute(parts: Parts) -> Tensor:
        x = norm(parts.x, {f"norm.{name}": value for name, value in parts.entrance.items()}, "norm")
        for F, p in zip(parts.F, parts.at, strict=True):
            x = math.sqrt(1 - beta_squared) * x + math.sqrt(beta_squared) * F(norm(x, p, "norm"))
        return norm(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(("given", "expected"), [(None, 0.5), (0.005, 0.005)])
def test_it_is_its_equation(kind, given, expected):
    assert_agrees(DeepScaleLM(norm=kind, beta_squared=given), equation(expected))


def test_the_weights_of_an_update_are_one_over_the_layers():
    stack = Stack(DeepScaleLM(), real_sublayers(20), 12)
    assert all(block.connection.on_update**2 == pytest.approx(1 / 20) for block in stack.blocks)
    assert Stack(DeepScaleLM(), real_sublayers(1), 12).blocks[0].connection.on_update ** 2 == pytest.approx(1 / 2)


def place(index: int, layers: int = 4, kind: str = "attention") -> Site:
    return Site(index=index, depth=2 * layers, layer=index // 2, num_layers=layers, kind=kind)


def test_the_correlation_of_tokens_follows_the_recursion():
    scheme = DeepScaleLM(dropout=0.1, beta_squared=0.005)
    r0 = 0.221 * 0.9
    assert scheme.correlation_at(place(0)) == pytest.approx(r0)
    r1 = 0.995 * r0 + 0.005 * 0.9
    assert scheme.correlation_at(place(1)) == pytest.approx(r1)
    # A feed-forward's correlation: of ReLU of two unit normals whose correlation is r1, over their second moment.
    angle = math.acos(r1)
    relu = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
    assert scheme.correlation_at(place(2)) == pytest.approx(0.995 * r1 + 0.005 * 0.9 * relu)


def test_the_initial_values_have_the_paper_s_variances_under_any_rule_of_the_model():
    scheme = DeepScaleLM(dropout=0.1)
    for rule in ("xavier", "normal"):
        model = small(scheme, d_model=32, d_ff=128, init=rule)
        for site, block in zip(model.stack.sites, model.stack.blocks, strict=True):
            if site.kind == "feedforward":
                expected = math.sqrt((1 - 0.1) / 2) / 32
            else:
                expected = math.sqrt(0.9 / scheme.correlation_at(site)) / 32
            for linear in block.sublayer.value_paths()[0]:
                assert float(linear.weight.detach().var(correction=0)) == pytest.approx(expected)
    plain, ours = small(PreNorm(), init="normal"), small(scheme, init="normal")
    assert torch.equal(plain.stack.blocks[0].sublayer.q_proj.weight, ours.stack.blocks[0].sublayer.q_proj.weight)


def test_stream_and_updates_of_a_deep_encoder_start_near_unit_variance():
    shape = {"vocab_size": 64, "d_model": 128, "num_heads": 4, "num_layers": 32, "d_ff": 512, "activation": "relu"}
    model = Encoder(DeepScaleLM(correlation=0.02), **shape, position="none").eval()
    variances = []
    for block in model.stack.blocks:
        block.sublayer.register_forward_hook(lambda _, __, update: variances.append(float(update.var())))
        block.register_forward_hook(lambda _, __, state: variances.append(float(state.var())))
    with torch.no_grad():
        model(torch.randint(0, 64, (8, 64)))
    states, updates = variances[1::2], variances[::2]
    # A quarter: the formulas hold for infinite widths; over six draws of the tokens the feed-forwards' variances lay
    # between 0.79 and 1.22. An attention's variance depends on its 64 tokens too, which the formulas take for
    # infinitely many: it is up to four times too large here.
    assert all(0.75 < variance < 1.25 for variance in states), states
    assert all(0.75 < variance < 1.25 for variance in updates[1::2]), updates
    assert all(0.4 < variance < 4.0 for variance in updates[::2]), updates


def test_modules_of_no_known_kind_are_left():
    sublayers = real_sublayers(1)
    before = [p.clone() for sublayer in sublayers for p in sublayer.parameters()]
    Stack(DeepScaleLM(), sublayers, 12, sites(2))
    assert all(map(torch.equal, before, (p for sublayer in sublayers for p in sublayer.parameters())))


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="correlation=0"):
        DeepScaleLM(correlation=0)
    with pytest.raises(UserError, match="beta_squared=1"):
        DeepScaleLM(beta_squared=1)
