"""The feed-forward sublayer against its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from addnorm import UserError
from addnorm.layers.feedforward import FeedForward
from oracles.ties import randomise_

CLOSE = {"rtol": 0, "atol": 1e-12}  # float64


def layer(activation: str, **options: object) -> FeedForward:
    made = FeedForward(6, 10, activation, **options).double()
    randomise_(made)
    return made


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu-tanh", "swiglu"])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_its_formula(activation, bias):
    made, x = layer(activation, bias=bias), vectors(2, 3)

    def linear(part: torch.nn.Linear, x: Tensor) -> Tensor:
        return x @ part.weight.T + (part.bias if bias else 0)

    inner = linear(made.fc1, x)
    if activation == "relu":
        inner = inner.clamp(min=0)
    elif activation == "gelu":
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    elif activation == "gelu-tanh":
        inner = inner * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    else:
        gate = linear(made.gate, x)
        inner = gate / (1 + (-gate).exp()) * inner
    torch.testing.assert_close(made(x), linear(made.fc2, inner), **CLOSE)
    assert len(list(made.parameters())) == (3 if activation == "swiglu" else 2) * (2 if bias else 1)


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])  # ReLU has a kink
def test_its_gradients_are_those_of_finite_differences(activation):
    made = layer(activation)
    names = [name for name, _ in made.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in made.parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (vectors(2).requires_grad_(), *values))


@pytest.mark.parametrize(("activation", "width", "inner"), [("relu", 64, 256), ("gelu", 6, 24), ("swiglu", 64, 176)])
def test_the_inner_width_is_four_times_or_for_swiglu_eight_thirds_in_eights(activation, width, inner):
    assert FeedForward(width, activation=activation).fc1.out_features == inner


def test_swiglu_has_about_as_many_parameters_as_gelu():
    sizes = {a: sum(p.numel() for p in FeedForward(768, activation=a).parameters()) for a in ("gelu", "swiglu")}
    assert sizes["swiglu"] == pytest.approx(sizes["gelu"], rel=0.01)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4)])
def test_each_token_is_handled_alone(shape):
    made, x = layer("swiglu"), vectors(*shape)
    alone = torch.stack([made(token) for token in x.reshape(-1, 6)]).view(x.shape)
    torch.testing.assert_close(made(x), alone, **CLOSE)


def test_dropout_is_on_the_output_and_in_training_only():
    made, x = layer("gelu", output_dropout=0.5), vectors(300)
    whole = made.eval()(x)
    torch.manual_seed(0)
    dropped = made.train()(x)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept], **CLOSE)
    # 1800 features: a standard error of 0.012.
    assert abs(kept.double().mean() - 0.5) < 0.06


def test_the_value_path_runs_from_input_to_output():
    made = layer("swiglu")
    assert made.value_paths() == [(made.fc1, made.fc2)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"activation": "gleu"},
            "activation 'gleu' is unknown; did you mean 'gelu'? Allowed: gelu, gelu-tanh, relu, swiglu.",
        ),
        ({"d_ff": 0}, "d_ff=0 is not allowed; use 1 or more."),
        ({"d_model": 0}, "d_model=0 is not allowed"),
        ({"output_dropout": 1.5}, "output_dropout=1.5 is not allowed"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, told):
    with pytest.raises(UserError) as error:
        FeedForward(**({"d_model": 6} | arguments))
    assert told in str(error.value)
