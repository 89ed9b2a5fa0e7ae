from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import addnorm
from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.residual import Connection
from addnorm.training.optimizer import BETAS, EPSILON, Optimizer, parameters_by_type

# Plain attention, which schemes may ask for.
SHAPE = {"vocab_size": 11, "d_model": 8, "num_heads": 2, "num_layers": 2, "attention": "plain"}


def model_of(scheme: str, **changes: object) -> addnorm.Transformer:
    return addnorm.Transformer(schemes.parse(scheme), **(SHAPE | changes))


@pytest.mark.parametrize("scheme", schemes.names())
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "position": "learned", "qk_norm": "rms"}])
def test_every_parameter_is_in_exactly_one_group(scheme, changes):
    model = model_of(scheme, **changes)
    grouped = [parameter for group in parameters_by_type(model).values() for parameter in group]
    assert len(grouped) == len({id(parameter) for parameter in grouped})
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize("scheme", schemes.names())
def test_all_that_a_connection_holds_is_in_its_group(scheme):
    model = model_of(scheme)
    group = {id(parameter) for parameter in parameters_by_type(model).get("connection", [])}
    held = [p for module in model.modules() if isinstance(module, Connection) for p in module.parameters()]
    assert {id(parameter) for parameter in held} <= group


def test_only_the_weights_of_linears_decay():
    model = model_of("pre-norm", position="learned", tie_embeddings=False)
    linears = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    assert {id(parameter) for parameter in parameters_by_type(model)["matrix"]} == linears
    decays = {name: buffer.weight_decay for name, buffer in Optimizer(model, RunConfig()).buffers.items()}
    assert decays == {"matrix": 0.1, "vector": 0.0, "connection": 0.0}


def loss_of(model: nn.Module) -> torch.Tensor:
    tokens = torch.arange(10).reshape(2, 5)
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def test_flat_buffers_take_the_same_steps_as_torchs_adamw_on_single_parameters():
    # In float64, or the rounding noise in a gradient that is 0 in theory (a key's bias) decides the step's sign.
    model = model_of("layer-scale", position="learned").double()
    single = copy.deepcopy(model)
    flat = Optimizer(model, RunConfig(connection_learning_rate=3.0))
    groups = parameters_by_type(single)
    adamw = torch.optim.AdamW(
        [
            {"params": groups["matrix"], "weight_decay": 0.1, "lr": 0.01},
            {"params": groups["vector"], "weight_decay": 0.0, "lr": 0.01},
            {"params": groups["connection"], "weight_decay": 0.0, "lr": 0.03},
        ],
        betas=BETAS,
        eps=EPSILON,
        foreach=False,
        fused=False,
    )
    for _ in range(5):
        loss_of(model).backward()
        flat.step(0.01)
        flat.clear_gradient()
        loss_of(single).backward()
        adamw.step()
        adamw.zero_grad()
    for (name, ours), theirs in zip(model.named_parameters(), single.parameters(), strict=True):
        # The fused kernel orders its multiplications otherwise. A gradient of 1e-18 that is 0 in theory, over an
        # epsilon of 1e-8, moves a weight by 1e-10 of the learning rate.
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10, msg=name)


def test_the_gradient_norm_and_its_scaling_are_over_all_parameters():
    model = model_of("pre-norm")
    optimizer = Optimizer(model, RunConfig())
    loss_of(model).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double().norm()
    # Rounding of a float32 sum over some thousand squares.
    assert optimizer.gradient_norm().item() == pytest.approx(expected.item(), rel=1e-5)
    optimizer.scale_gradient(0.5)
    assert optimizer.gradient_norm().item() == pytest.approx(expected.item() / 2, rel=1e-5)
    optimizer.clear_gradient()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert optimizer.gradient_norm().item() == 0


def test_tied_weights_stay_tied_and_move_once():
    model = nn.Module()
    model.first, model.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    model.second.weight = model.first.weight
    optimizer = Optimizer(model, RunConfig(weight_decay=0))
    (model.first(torch.ones(1, 4)) + model.second(torch.ones(1, 4))).sum().backward()
    assert torch.equal(model.first.weight.grad, torch.full((4, 4), 2.0))
    before = model.first.weight.detach().clone()
    optimizer.step(0.1)
    assert model.second.weight is model.first.weight
    # The first step of AdamW is the learning rate's size whatever the gradient.
    torch.testing.assert_close(before - model.second.weight.detach(), torch.full((4, 4), 0.1))


def test_a_frozen_parameter_does_not_move():
    model = model_of("pre-norm")
    frozen = [model.embedding.tokens.weight, model.stack.blocks[1].get_submodule("sublayer.fc1").weight]
    for parameter in frozen:
        parameter.requires_grad_(False)
    before = [parameter.clone() for parameter in frozen]
    optimizer = Optimizer(model, RunConfig())
    loss_of(model).backward()
    optimizer.step(0.1)
    assert all(torch.equal(parameter, old) for parameter, old in zip(frozen, before, strict=True))


def test_a_gradient_that_was_replaced_is_taken_and_a_missing_one_is_zero():
    model = model_of("pre-norm")
    optimizer = Optimizer(model, RunConfig())
    loss_of(model).backward()
    norm = optimizer.gradient_norm()
    model.zero_grad(set_to_none=True)
    loss_of(model).backward()
    assert torch.equal(optimizer.gradient_norm(), norm)
    weight = model.embedding.tokens.weight
    weight.grad = None
    assert optimizer.gradient_norm() < norm and not weight.grad.any()
    weight.grad = torch.ones_like(weight)
    assert optimizer.gradient_norm() > weight.numel() ** 0.5


def test_a_restored_optimizer_takes_the_same_steps_bit_for_bit():
    model = model_of("layer-scale")
    optimizer = Optimizer(model, RunConfig())
    for _ in range(3):
        loss_of(model).backward()
        optimizer.step(0.01)
        optimizer.clear_gradient()
    other = model_of("layer-scale")
    restored = Optimizer(other, RunConfig())
    other.load_state_dict(model.state_dict())
    restored.load_(optimizer.tensors())
    for one, its in ((model, optimizer), (other, restored)):
        loss_of(one).backward()
        its.step(0.01)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    # A parameter's moments have its shape and name, wherever it lies in the buffer.
    assert optimizer.tensors()["exp_avg/stack.blocks.0.sublayer.q_proj.weight"].shape == (8, 8)
