from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

import addnorm
from addnorm import schemes
from addnorm.errors import UserError
from addnorm.probes.signal import SignalFlow, rms, stack_of

WIDTH, DEPTH = 8, 6


def stack_under(scheme: str, seed: int = 0) -> addnorm.Stack:
    torch.manual_seed(seed)
    sublayers = [nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, WIDTH)) for _ in range(DEPTH)]
    stack = addnorm.Stack(schemes.parse(scheme), sublayers, WIDTH).double()
    with torch.no_grad():  # away from special initial values: zero gates, equal streams
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stack.eval()  # what a scheme drops at random in training would differ between two forwards


def loss_of(hidden: torch.Tensor) -> torch.Tensor:
    return (hidden * torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view_as(hidden)).sum()


def embedding() -> torch.Tensor:
    return torch.randn(3, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def states_of(stack: addnorm.Stack) -> list:
    states = [stack.entrance(embedding())]
    for block in stack.blocks:
        states.append(block(states[-1]))
    return states


def gradient_at(stack: addnorm.Stack, state: object, depth: int) -> float:
    """The norm of the loss's gradient by the state at a depth, from a graph that begins there."""
    cut = {id(leaf): leaf.detach().requires_grad_() for leaf in tree_leaves(state)}  # a tensor may stand there twice
    state = tree_map(lambda leaf: cut[id(leaf)], state)
    leaves = list(cut.values())
    for block in stack.blocks[depth:]:
        state = block(state)
    gradients = torch.autograd.grad(loss_of(stack.exit(state)), leaves, allow_unused=True)
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None))


@pytest.mark.parametrize("scheme", schemes.names())
def test_the_gradient_at_a_depth_counts_what_comes_after_that_depth_only(scheme):
    try:
        stack = stack_under(scheme)
    except UserError:
        pytest.skip("asks for something within its sublayers, which these have not")
    with SignalFlow(stack) as flow:
        loss_of(stack(embedding())).backward()
    measured = flow.forward_and_backward()["state_grad_norm"]
    expected = [gradient_at(stack, state, depth) for depth, state in enumerate(states_of(stack))]
    # The norm of each tensor is taken in float32.
    assert measured == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scheme", ["pre-norm", "post-norm", "mhc", "attention-residuals"])
def test_rms_is_of_what_sublayers_read_and_write_and_of_the_state_as_the_exit_sees_it(scheme):
    stack = stack_under(scheme)
    with SignalFlow(stack) as flow:
        loss_of(stack(embedding())).backward()
    measured = flow.forward_and_backward()
    states = states_of(stack)
    for i, block in enumerate(stack.blocks):
        x, _ = block.connection.read(states[i])
        assert measured["read_rms"][i] == pytest.approx(x.square().mean().sqrt().item())
        assert measured["update_rms"][i] == pytest.approx(block.sublayer(x).square().mean().sqrt().item())
    expected = [stack.exit.collapse(state).square().mean().sqrt().item() for state in states]
    assert measured["state_rms"] == pytest.approx(expected)


def test_the_weight_gradient_is_of_each_sublayers_own_weights():
    stack = stack_under("pre-norm")
    with SignalFlow(stack) as flow:
        loss_of(stack(embedding())).backward()
    expected = [
        torch.cat([p.grad.flatten() for p in block.sublayer.parameters()]).norm().item() for block in stack.blocks
    ]
    assert flow.forward_and_backward()["weight_grad_norm"] == pytest.approx(expected, rel=1e-5)


def test_the_update_ratio_is_the_step_relative_to_the_weights():
    stack = stack_under("pre-norm")
    with SignalFlow(stack) as flow:
        loss_of(stack(embedding())).backward()
    with torch.no_grad():
        for i, block in enumerate(stack.blocks):
            for parameter in block.sublayer.parameters():
                parameter.mul_(1 + 0.01 * i)
    # Norms in float32 of differences as small as 1e-2 of the weights.
    assert flow.update_ratio() == pytest.approx([0.01 * i for i in range(DEPTH)], rel=1e-4, abs=1e-9)


def test_a_frozen_sublayer_has_no_weight_gradient_and_not_one_of_zero():
    stack = stack_under("pre-norm")
    stack.blocks[0].requires_grad_(False)
    with SignalFlow(stack) as flow:
        loss_of(stack(embedding().detach())).backward()
    measured = flow.forward_and_backward()
    assert math.isnan(measured["weight_grad_norm"][0]) and measured["state_grad_norm"][:2] == [0, 0]
    assert all(norm > 0 for norm in measured["weight_grad_norm"][1:] + measured["state_grad_norm"][2:])


def test_no_hook_stays_behind():
    stack = stack_under("pre-norm")
    modules = list(stack.modules())
    with SignalFlow(stack) as flow:
        assert any(module._forward_pre_hooks or module._forward_hooks for module in modules)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)
    stack(embedding())
    assert all(math.isnan(number) for number in flow.forward_and_backward()["read_rms"])


def test_a_hook_that_fails_leaves_none_behind_either():
    stack = stack_under("pre-norm")
    with pytest.raises(addnorm.UserError), SignalFlow(stack):
        stack(torch.randn(3, 5, WIDTH + 1, dtype=torch.float64))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in stack.modules())


def test_what_is_not_there_is_nan_and_what_is_zero_is_zero():
    stack = addnorm.Stack(schemes.get("pre-norm")(), [nn.Identity(), nn.Linear(WIDTH, WIDTH)], WIDTH)
    with SignalFlow(stack) as flow:
        (stack(torch.randn(2, WIDTH)) * 0).sum().backward()
    measured = flow.forward_and_backward()
    assert math.isnan(measured["weight_grad_norm"][0]) and math.isnan(flow.update_ratio()[0])
    assert measured["weight_grad_norm"][1] == 0 and measured["state_grad_norm"] == [0, 0, 0]


@pytest.mark.parametrize("scheme", schemes.names())
def test_a_probed_training_step_equals_an_unprobed_one_bit_for_bit(scheme):
    """Weights after two steps with dropout: the forward, the backward, the optimizer and the random stream."""
    results = []
    for probed in (False, True):
        model = addnorm.Transformer(
            schemes.parse(scheme),
            vocab_size=11,
            d_model=8,
            num_heads=2,
            num_layers=3,
            dropout=0.2,
            attention="plain",  # some schemes ask for it
            seed=1,
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.manual_seed(2)
        for _ in range(2):
            tokens = torch.randint(11, (2, 6))
            with SignalFlow(model.stack) if probed else torch.enable_grad():
                nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append([*model.parameters(), torch.rand(3)])
    assert all(torch.equal(plain, watched) for plain, watched in zip(*results, strict=True))


def test_recomputed_activations_are_measured_once():
    tokens = torch.arange(10)[None]
    measured = []
    for checkpointing in (False, True):
        model = addnorm.Transformer(
            schemes.get("pre-norm")(), vocab_size=11, d_model=8, num_heads=2, num_layers=2, seed=1
        )
        model.stack.checkpointing = checkpointing
        with SignalFlow(model.stack) as flow:
            model(tokens).square().mean().backward()
        measured.append(flow.forward_and_backward())
    assert measured[0] == measured[1]


def test_the_stack_of_a_model_is_found():
    model = addnorm.Transformer(schemes.get("pre-norm")(), vocab_size=11, d_model=8, num_heads=2, num_layers=1)
    assert stack_of(model) is model.stack
    assert stack_of(nn.Linear(2, 2)) is None


def test_rms_of_half_precision_does_not_overflow():
    assert rms(torch.full((1000,), 6e4, dtype=torch.float16)).item() == pytest.approx(6e4, rel=1e-3)
    assert rms(torch.empty(0)).item() == 0
