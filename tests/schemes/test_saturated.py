"""DyT and Derf: as schemes, as norms of other schemes, and against another implementation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from addnorm import Stack, Transformer, UserError, schemes
from addnorm.layers.norm import make_norm
from addnorm.layers.saturation import Derf as DynamicErf
from addnorm.layers.saturation import DynamicTanh
from addnorm.schemes.derf import Derf
from addnorm.schemes.dyt import Dyt
from addnorm.testing.small_models import noise_like
from oracles.ties import Pair, Tie, differences, randomise_
from transcription import Parts, assert_agrees, real_sublayers


def tanh(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    up, down = torch.exp(p[f"{name}.alpha"] * x), torch.exp(-p[f"{name}.alpha"] * x)
    return p[f"{name}.weight"] * (up - down) / (up + down) + p[f"{name}.bias"]


def erf(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    # By the normal distribution: erf(z) = 2 Phi(z sqrt 2) - 1.
    z = p[f"{name}.alpha"] * x + p[f"{name}.shift"]
    return p[f"{name}.weight"] * (2 * torch.special.ndtr(z * math.sqrt(2)) - 1) + p[f"{name}.bias"]


def equation(function: Callable[[Tensor, dict[str, Tensor], str], Tensor]) -> Callable[[Parts], Tensor]:
    def compute(parts: Parts) -> Tensor:
        x = parts.entrance["scale"] * parts.x
        for F, p in zip(parts.F, parts.at, strict=True):
            x = x + F(function(x, p, "function"))
        return function(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize(("scheme", "function"), [(Dyt(), tanh), (Dyt(alpha=0.1), tanh), (Derf(), erf)])
def test_it_is_its_equation(scheme, function):
    assert_agrees(scheme, equation(function))


@pytest.mark.parametrize(("kind", "function"), [("tanh", tanh), ("erf", erf)])
@pytest.mark.parametrize("name", ["pre-norm", "post-norm"])
def test_it_stands_in_for_the_norm_of_other_schemes(name, kind, function):
    def compute(parts: Parts) -> Tensor:
        x = parts.x
        for F, p in zip(parts.F, parts.at, strict=True):
            x = x + F(function(x, p, "norm")) if name == "pre-norm" else function(x + F(x), p, "norm")
        return function(x, parts.exit, "norm") if name == "pre-norm" else x

    assert_agrees(schemes.parse(f"{name}(norm={kind})"), compute)


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_it_is_that_of_x_transformers(kind):
    module = pytest.importorskip("x_transformers.x_transformers")
    ours = make_norm(kind, 12).double()
    theirs = (module.DynamicTanh(12, init_alpha=0.5) if kind == "tanh" else module.Derf(12)).double()
    randomise_(ours)
    ties = [Tie(ours.weight, theirs.gamma), Tie(ours.bias, theirs.beta)]
    ties.append(Tie(ours.alpha, theirs.pre_tanh_scale if kind == "tanh" else theirs.alpha, rows=...))
    if kind == "erf":
        ties.append(Tie(ours.shift, theirs.s, rows=...))
    x = noise_like(torch.empty(3, 5, 12, dtype=torch.float64))
    pair = Pair(ours=ours, theirs=theirs, ties=ties, inputs=(x,), run_ours=ours, run_theirs=theirs)
    found = differences(pair)
    assert max(found.value, found.gradient) < 1e-14  # the same operations in float64


def test_alpha_is_set_apart_before_attentions_also_after_a_fresh_initialisation():
    scheme = Dyt(alpha=0.2, attention_alpha=0.8)
    model = Transformer(scheme, vocab_size=11, d_model=16, num_heads=2, num_layers=2)
    assert [round(block.connection.function.alpha.item(), 6) for block in model.stack.blocks] == [0.8, 0.2] * 2
    assert round(model.stack.exit.norm.alpha.item(), 6) == 0.2
    assert model.stack.entrance.scale.item() == 4.0


def test_derf_has_three_alphas_as_its_authors_language_model():
    scheme = Derf(alpha=0.2, attention_alpha=0.8, final_alpha=1.5)
    model = Transformer(scheme, vocab_size=11, d_model=16, num_heads=2, num_layers=2)
    model.initialise_(3)
    assert [round(block.connection.function.alpha.item(), 6) for block in model.stack.blocks] == [0.8, 0.2] * 2
    assert round(model.stack.exit.norm.alpha.item(), 6) == 1.5
    assert Transformer(Derf(), vocab_size=11, d_model=16, num_heads=2, num_layers=1).stack.exit.norm.alpha.item() == 0.5


def test_outputs_are_bounded_by_the_gain():
    for function in (DynamicTanh(8), DynamicErf(8)):
        out = function(1e6 * torch.randn(5, 8))
        assert torch.equal(out.abs(), torch.ones(5, 8))


def test_an_alpha_that_is_not_positive_is_refused():
    for text in ("dyt(alpha=0)", "dyt(attention_alpha=-1)", "derf(alpha=0)", "derf(final_alpha=0)"):
        with pytest.raises(UserError, match="alpha="):
            schemes.parse(text)


def test_a_stack_costs_what_it_says():
    for scheme, parameters in ((Dyt(), 2 * 12 + 1), (Derf(), 2 * 12 + 2)):
        connection = Stack(scheme, real_sublayers(1), 12).blocks[0].connection
        assert sum(p.numel() for p in connection.parameters()) == parameters
