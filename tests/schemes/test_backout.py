"""Backout: the middle of the stack is taken out of what the head reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError, schemes
from addnorm.schemes.admin import Admin
from addnorm.schemes.backout import Backout
from addnorm.schemes.complete_p import CompleteP
from addnorm.schemes.deep_norm import DeepNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.schemes.residual_lambdas import ResidualLambdas
from addnorm.stack import sites
from addnorm.testing.small_models import moved, small, tokens
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers


def around_pre_norm(parts: Parts) -> Tensor:
    """As nanochat has it: the output of layer L // 2, counted from 0."""
    x, middle = parts.x, len(parts.F) // 4
    for layer in range(len(parts.F) // 2):
        for i in (2 * layer, 2 * layer + 1):
            x = x + parts.F[i](norm(x, parts.at[i], "inner.norm"))
        if layer == middle:
            kept = x
    return norm(x - parts.exit["weight"] * kept, parts.exit, "inner.norm")


def around_lambdas(parts: Parts) -> Tensor:
    """nanochat's whole stream."""
    start = x = norm(parts.x, parts.entrance, "inner.norm")
    middle = len(parts.F) // 4
    for layer in range(len(parts.F) // 2):
        p = parts.at[2 * layer]
        x = p["inner.residual"] * x + p["inner.embedding"] * start
        for i in (2 * layer, 2 * layer + 1):
            x = x + parts.F[i](norm(x, parts.at[i], "inner.norm"))
        if layer == middle:
            kept = x
    return norm(x - parts.exit["weight"] * kept, parts.exit, "inner.norm")


@pytest.mark.parametrize("layers", [3, 4, 5])
@pytest.mark.parametrize(("inner", "equation"), [(PreNorm, around_pre_norm), (ResidualLambdas, around_lambdas)])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(inner, equation, kind, layers):
    assert_agrees(Backout(inner=inner(norm=kind)), equation, real_sublayers(layers))


@pytest.mark.parametrize(("layers", "reads_after"), [(1, 0), (2, 2), (3, 4), (4, 6), (12, 14)])
def test_what_is_kept_is_the_output_of_the_middle_layer_and_in_short_stacks_what_the_last_one_reads(
    layers, reads_after
):
    stack = Stack(Backout(), real_sublayers(layers), D_MODEL)
    state = stack.entrance(torch.randn(1, 2, D_MODEL))
    streams = [state.inner]
    for block in stack.blocks:
        state = block(state)
        streams.append(state.inner)
    assert [each is streams[reads_after] for each in state.middle] == [True]


@pytest.mark.parametrize("text", ["pre-norm", "attention-residuals", "hyper-connections", "post-norm", "mudd"])
def test_without_weight_it_is_any_inner_scheme(text):
    inner = schemes.parse(text)
    # 1e-6: an exit of several streams adds -0 * what was kept.
    torch.testing.assert_close(small(Backout(inner=inner, init=0))(tokens()), small(inner)(tokens()), atol=1e-6, rtol=0)


def test_before_the_middle_the_exit_is_the_inner_one():
    model, inner = small(Backout(), num_layers=4), small(PreNorm(norm="rms"), num_layers=4)
    state = model.stack.entrance(torch.ones(1, 2, 16))
    assert torch.equal(model.stack.exit(state), inner.stack.exit(torch.ones(1, 2, 16)))


def test_what_the_inner_scheme_asks_for_is_done():
    deep, inner = small(Backout(inner=DeepNorm())), small(DeepNorm())
    assert torch.equal(deep.stack.blocks[1].sublayer.fc1.weight, inner.stack.blocks[1].sublayer.fc1.weight)
    model = small(Backout(inner=Admin(growth="profile")), calibration=tokens())
    assert model(tokens()).isfinite().all()
    site = sites(4)[0]
    assert Backout(inner=CompleteP(base_layers=1)).optimizer_rule(site).eps == 0.5
    assert Backout(inner=ResidualLambdas()).optimizer_rule(site, "inner.embedding").learning_rate == 100


def test_the_weight_starts_at_a_fifth_and_learns():
    model = moved(Backout(), num_layers=3)
    assert small(Backout()).stack.exit.weight.item() == pytest.approx(0.2)
    model(tokens()).square().sum().backward()
    assert model.stack.exit.weight.grad.abs().item() > 0


def test_what_is_no_scheme_or_no_number_is_refused():
    with pytest.raises(UserError, match="inner=pre"):
        schemes.parse("backout(inner=pre)")
    with pytest.raises(UserError, match="init"):
        Backout(init=float("nan"))


def test_the_weight_learns_forty_times_as_fast_and_the_inner_scheme_is_still_asked():
    scheme = Backout(inner=schemes.parse("deepseek-mhc"), learning_rate=7)
    assert Backout().optimizer_rule(None, "exit.weight").learning_rate == 40
    assert scheme.optimizer_rule(None, "exit.weight").learning_rate == 7
    assert scheme.optimizer_rule(None, "exit.inner.weight").decays
    assert not scheme.optimizer_rule(None, "exit.inner.norm.weight").decays
    twice = Backout(inner=scheme)
    assert twice.optimizer_rule(None, "exit.inner.weight").learning_rate == 7
    assert twice.optimizer_rule(None, "exit.inner.inner.weight").decays
    assert schemes.parse("gpas(inner=backout)").optimizer_rule(None, "exit.weight").learning_rate == 40
