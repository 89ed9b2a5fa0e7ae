"""What every scheme of several streams must do with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, schemes
from addnorm.schemes._streams import StreamScheme
from addnorm.testing.small_models import leaves, noise_like
from agreement import scatter_

D = 8
OTHER_STATE = "single-pass-mhc"  # its state holds the weights of the next read beside the streams
NAMES = [n for n in schemes.names() if issubclass(schemes.get(n), StreamScheme) and n != OTHER_STATE]
SPECIFICATIONS = [
    "deepseek-mhc(projection_std=0.3, alpha=0.8, diagonal=0.5)",
    "hyper-connections(scale=0.7)",
    "identity-hc(projection_std=0.3, alpha=0.8)",
    "krom-hc(alpha=0.8)",
    "mhc(projection_std=0.3, alpha=0.8, diagonal=0.5)",
    "mhc-lite(alpha=0.8)",
    "static-hyper-connections",
]


def moved(specification: str, depth: int = 4) -> Stack:
    torch.manual_seed(0)
    sublayers = [nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D)) for _ in range(depth)]
    stack = Stack(schemes.parse(specification), sublayers, D).double()
    scatter_(stack, 0.3)
    return stack


def run(stack: Stack, state: Tensor, start: int = 0) -> Tensor:
    for block in stack.blocks[start:]:
        state = block(state)
    return stack.exit(state)


@pytest.mark.parametrize("specification", SPECIFICATIONS)
@pytest.mark.parametrize("reduce", ["sum", "mean", "head"])
@pytest.mark.parametrize("stream", range(4))
def test_every_stream_counts(specification, reduce, stream):
    """Between layers nothing may fall back to one stream: shapes would fit, and all but one stream be dead."""
    head, _, rest = specification.partition("(")
    stack = moved(f"{head}({rest.rstrip(')')}{', ' if rest else ''}reduce={reduce})")
    state = noise_like(torch.empty(3, 4, D, dtype=torch.float64))
    other = state.clone()
    other[:, stream] += noise_like(torch.empty(3, D, dtype=torch.float64), 5)
    assert (run(stack, state, 2) - run(stack, other, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_streams_part_after_one_sublayer(specification):
    stack = moved(specification)
    state = stack.blocks[0](stack.entrance(noise_like(torch.empty(3, D, dtype=torch.float64))))
    for i in range(4):
        for j in range(i):
            assert (state[:, i] - state[:, j]).abs().max() > 1e-3


@pytest.mark.parametrize("specification", SPECIFICATIONS)
@pytest.mark.parametrize("shape", [(D,), (3, D), (2, 3, D), (2, 1, 3, D)])
def test_the_state_is_one_contiguous_tensor(specification, shape):
    stack = moved(specification)
    state = stack.entrance(torch.ones(shape, dtype=torch.float64))
    for block in stack.blocks:
        assert state.shape == (*shape[:-1], 4, D)
        assert state.is_contiguous()
        state = block(state)


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_leading_dimensions_change_nothing(specification):
    stack = moved(specification)
    x = noise_like(torch.empty(2, 3, 5, D, dtype=torch.float64))
    torch.testing.assert_close(stack(x).flatten(0, 2), stack(x.flatten(0, 2)), rtol=1e-12, atol=1e-12)


def test_every_scheme_of_streams_is_tested_here():
    assert sorted(text.partition("(")[0] for text in SPECIFICATIONS) == NAMES


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_the_streams_are_reduced_without_the_norm(reduce):
    stack = moved(f"static-hyper-connections(reduce={reduce})")
    state = noise_like(torch.empty(3, 4, D, dtype=torch.float64))
    expected = state.sum(1) if reduce == "sum" else state.mean(1)
    assert torch.equal(stack.exit.collapse(state), expected)
    assert torch.equal(stack.exit(state), stack.exit.norm(expected))


def test_the_head_starts_as_the_mean():
    stack = Stack(schemes.parse("mhc(reduce=head)"), [nn.Identity()], D).double()
    state = noise_like(torch.empty(3, 4, D, dtype=torch.float64))
    with torch.no_grad():
        stack.exit.weight.zero_()
    torch.testing.assert_close(stack.exit.collapse(state), state.mean(1), rtol=1e-5, atol=1e-5)  # 1e-6 on each gate


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_coefficients_are_float32_in_a_bfloat16_model_and_under_autocast(specification):
    stack = moved(specification).bfloat16()
    state = noise_like(torch.empty(3, 4, D)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        x, skip = stack.blocks[1].connection.read(state)
    assert x.dtype == torch.bfloat16
    coefficients = [tensor for tensor in leaves(skip) if tensor.shape != state.shape]
    assert all(tensor.dtype == torch.float32 for tensor in coefficients)
    with torch.autocast("cpu", torch.bfloat16):
        assert stack.blocks[1].connection.write(skip, x).dtype == torch.bfloat16
