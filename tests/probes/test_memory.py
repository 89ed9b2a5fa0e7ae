from __future__ import annotations

import pytest
import torch
from torch import nn

import addnorm
from addnorm import schemes
from addnorm.kernels import native
from addnorm.probes.memory import activation_bytes


def total(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).sum()


def test_a_linear_keeps_its_input_and_parameters_do_not_count():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    # The input of the first (10 x 8 floats) and of the second (10 x 4); the weights are saved too, and are not counted.
    assert activation_bytes(model, torch.randn(10, 8), total) == 10 * 8 * 4 + 10 * 4 * 4


def test_a_tensor_that_is_saved_twice_is_counted_once():
    class Square(nn.Module):
        def forward(self, x):
            y = x * 1.5  # needs no tensor
            return y * y + y.tanh()  # saves y twice, and tanh's output

    x = torch.randn(100, requires_grad=True)
    assert activation_bytes(Square(), x, total) == 2 * 100 * 4


def test_a_view_counts_with_the_storage_that_it_keeps_alive():
    class Half(nn.Module):
        def forward(self, x):
            return (x * 2.0)[:50].square()

    assert activation_bytes(Half(), torch.randn(100, requires_grad=True), total) == 100 * 4


def test_twice_the_batch_is_twice_the_memory_almost():
    model = addnorm.Transformer(schemes.get("pre-norm")(), vocab_size=11, d_model=8, num_heads=2, num_layers=2)

    def loss(model, tokens):
        return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())

    one, two = (activation_bytes(model, torch.arange(10).repeat(size, 1), loss) for size in (4, 8))
    assert two == pytest.approx(2 * one, rel=0.02)  # the tables of the rotary positions are shared


def test_more_streams_keep_more():
    def loss(model, tokens):
        return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())

    sizes = []
    for name in ("pre-norm", "mhc"):
        model = addnorm.Transformer(schemes.get(name)(), vocab_size=11, d_model=16, num_heads=2, num_layers=4)
        with native.switched(False):  # the C++ kernel makes most of the streams again
            sizes.append(activation_bytes(model, torch.arange(10).repeat(4, 1), loss))
    assert sizes[1] > 1.5 * sizes[0]


def test_measuring_leaves_model_and_random_stream_as_they_were():
    model = addnorm.Transformer(
        schemes.parse("post-norm(norm=batch)"), vocab_size=11, d_model=8, num_heads=2, num_layers=2, dropout=0.5
    ).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    activation_bytes(model, torch.arange(10)[None], total)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
