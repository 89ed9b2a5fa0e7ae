"""Norms and activations are made again in backward: fewer bytes are kept, and no bit changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from addnorm import schemes
from addnorm.kernels import native
from addnorm.kernels.rebuild import rebuildable, rebuilding
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.norm import LayerNorm, RMSNorm
from addnorm.models.decoder import Transformer
from addnorm.probes.memory import activation_bytes


def model(scheme="pre-norm", **options):
    torch.manual_seed(0)
    return Transformer(schemes.parse(scheme), vocab_size=16, d_model=64, num_heads=2, num_layers=6, **options)


def loss(net, tokens):
    return F.cross_entropy(net(tokens).flatten(0, 1), tokens.flatten())


TOKENS = torch.arange(128).remainder(16).view(2, 64)


@pytest.mark.parametrize("cpp", [True, False], ids=["C++", "torch"])
@pytest.mark.parametrize("scheme", ["pre-norm", "pre-norm(norm=rms)", "post-norm"])
def test_two_thirds_of_the_bytes_are_kept_and_no_gradient_changes(scheme, cpp):
    found = []
    with native.switched(cpp):
        for rebuild in (False, True):
            net = model(scheme)
            net.stack.rebuilding = rebuild
            kept = activation_bytes(net, TOKENS, loss)
            loss(net, TOKENS).backward()
            found.append((kept, [parameter.grad for parameter in net.parameters()]))
    (plain, gradients), (less, again) = found
    assert less <= 0.67 * plain
    assert all(map(torch.equal, gradients, again))


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu-tanh", "swiglu"])
@pytest.mark.parametrize("cast", [False, True], ids=["float32", "autocast"])
def test_every_activation_and_norm_is_made_again_as_it_was(activation, cast):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(LayerNorm(8), FeedForward(8, activation=activation), RMSNorm(8), FeedForward(8))
    x = torch.randn(3, 20, 8, requires_grad=True)
    found = []
    for rebuild in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            if rebuild:
                with rebuilding():
                    y = layers(x)
            else:
                y = layers(x)
        found.append(torch.autograd.grad(y.float().square().sum(), [x, *layers.parameters()]))
    assert all(map(torch.equal, *found))


def test_a_second_backward_over_a_kept_graph_makes_them_once_more():
    net = model()
    net.stack.rebuilding = True
    value = loss(net, TOKENS)
    first = torch.autograd.grad(value, list(net.parameters()), retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(value, list(net.parameters()))))


def test_a_tensor_that_was_changed_is_kept_as_it_is():
    x = torch.randn(4, 3, requires_grad=True)
    with rebuilding():
        y = rebuildable(x * 1.0, lambda: x.detach() * 1.0)
        with torch.no_grad():
            y.add_(1.0)
        (gradient,) = torch.autograd.grad((y * y).sum(), x)
    assert torch.equal(gradient, 2 * (x + 1.0))


def test_memory_that_another_tensor_has_now_is_not_mistaken():
    x = torch.randn(64, 64, requires_grad=True)
    memory = x * 3.0
    with rebuilding():
        address = rebuildable(memory.view(64, 64), lambda: torch.zeros(64, 64)).data_ptr()  # dies at once
        y = memory.view(64, 64)
        (gradient,) = torch.autograd.grad((y * y).sum(), x)
    assert y.data_ptr() == address
    assert torch.equal(gradient, 2 * y * 3.0)


def test_what_a_caller_hung_in_still_sees_what_is_kept():
    seen = []

    def pack(tensor):
        seen.append(tensor.shape)
        return tensor.clone()

    net = model()
    net.stack.rebuilding = True
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(net, TOKENS).backward()
    assert len(seen) > 20
    wide = [shape for shape in seen if shape.numel() == 128 * 256]
    assert len(wide) == 6  # each layer's inner vector; not its activation too


def test_without_gradients_nothing_is_noted():
    net = model().eval()
    net.stack.rebuilding = True
    with torch.no_grad():
        plain = net(TOKENS)
    net.stack.rebuilding = False
    assert torch.equal(plain, net(TOKENS))
