"""U-net skips: the second half of the layers gets the first half's outputs, the last first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.schemes.unet_skips import UnetSkips
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers


def equation(parts: Parts) -> Tensor:
    layers, x, outputs = len(parts.F) // 2, parts.x, {}
    for layer in range(layers):
        p, q = parts.at[2 * layer : 2 * layer + 2]
        if layer >= (layers + 1) // 2:
            x = x + p["weight"] * outputs[layers - 1 - layer]
        x = x + parts.F[2 * layer](norm(x, p, "norm"))
        x = x + parts.F[2 * layer + 1](norm(x, q, "norm"))
        outputs[layer] = x
    return norm(x, parts.exit, "norm")


@pytest.mark.parametrize("layers", [1, 2, 4, 5])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind, layers):
    assert_agrees(UnetSkips(norm=kind), equation, real_sublayers(layers))


def test_the_weights_start_at_one_and_the_stream_doubles_in_the_middle():
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    stack, x = Stack(UnetSkips(), [Nothing() for _ in range(8)], D_MODEL), torch.randn(2, 3, D_MODEL)
    state, seen = stack.entrance(x), []
    for block in stack.blocks:
        state = block(state)
        seen.append((stack.exit.collapse(state) / x).mean().item())
    # Layers 0 and 1 leave x; layer 2 adds x of layer 1, layer 3 that of layer 0.
    assert seen == pytest.approx([1, 1, 1, 1, 2, 2, 3, 3])


def test_nothing_is_left_waiting_at_the_end():
    stack = Stack(UnetSkips(), real_sublayers(6), D_MODEL)
    state, waiting = stack.entrance(torch.randn(1, 2, D_MODEL)), []
    for block in stack.blocks:
        state = block(state)
        waiting.append(len(state.waiting))
    assert waiting == [0, 1, 1, 2, 2, 3, 2, 2, 1, 1, 0, 0]


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="init"):
        UnetSkips(init=float("inf"))
