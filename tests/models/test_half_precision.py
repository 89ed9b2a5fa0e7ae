"""Whole models in bfloat16 learn from the gradients of float64, however many tokens are added up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm import Encoder, schemes
from addnorm.kernels import choice
from addnorm.layers.embedding import Embedding
from addnorm.layers.lookup_table import LookupTable
from addnorm.layers.norm import LayerNorm
from addnorm.testing.small_models import moved, noise_like, tokens

MANY = 32768
BFLOAT16 = torch.bfloat16


@pytest.fixture(params=[(2, "auto"), (1, "torch")], ids=str)
def machine(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param[0])
    choice.choose(request.param[1])
    yield
    torch.set_num_threads(before)
    choice.choose("auto")


def frequent(rows: int, length: int) -> Tensor:
    """Ids of which half are the same."""
    ids = tokens(rows, length)
    ids[:, ::2] = 1
    return ids


def gradients(model: nn.Module, call: Callable[..., Tensor], ids: Tensor) -> dict[str, Tensor]:
    """Of the summed loss: the mean over tokens would hide nothing, but small numbers are harder to judge."""
    model.zero_grad()
    logits = call(ids, torch.ones_like(ids, dtype=torch.bool))
    wide = logits.double() if logits.dtype == torch.float64 else logits.float()
    F.cross_entropy(wide.flatten(0, 1), tokens(*ids.shape, seed=5).flatten(), reduction="sum").backward()
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_close_to_float64(model: nn.Module, call: Callable[..., Tensor], ids: Tensor, tolerance: float) -> None:
    exact = copy.deepcopy(model).double()
    with torch.autocast("cpu", BFLOAT16, enabled=next(model.parameters()).dtype == torch.float32):
        ours = gradients(model, call, ids)
    for name, expected in gradients(exact, lambda ids, keep: exact(ids, keep=keep), ids).items():
        # The keys' biases have no gradient, as a softmax does not see them: judged by the size of a sum of noise.
        error = (ours[name].double() - expected).norm() / expected.norm().clamp_min(ids.numel() ** 0.5)
        assert error <= tolerance, f"{name}: {error:.1e}"


@pytest.mark.slow
# What is rounded to bfloat16 on the way through the layers: 1.1e-2 at 32,768 tokens, at 64 it is averaged out less. A
# sum that stops at 256 is off by 0.3 to 0.9.
@pytest.mark.parametrize(("rows", "length", "tolerance"), [(1, 64, 5e-2), (256, 128, 2e-2)])
@pytest.mark.parametrize("form", ["autocast", "cast"])
@pytest.mark.parametrize("scheme", ["pre-norm", "peri-norm", "plain"])
@pytest.mark.usefixtures("machine")
def test_gradients_are_those_of_float64(scheme: str, form: str, rows: int, length: int, tolerance: float):
    model = moved(schemes.parse(scheme), position="learned", max_tokens=128)
    if form == "cast":
        model, tolerance = model.bfloat16(), 2 * tolerance  # weights and streams are rounded too
    assert_close_to_float64(model, lambda ids, keep: model(ids, keep=keep), tokens(rows, length), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["autocast", "cast"])
def test_the_compiled_models_gradients_are_those_of_float64(form: str):
    model = moved(schemes.parse("peri-norm"), position="learned", max_tokens=128, num_layers=1)
    model = model.bfloat16() if form == "cast" else model
    compiled = torch.compile(lambda ids, keep: model(ids, keep=keep))
    assert_close_to_float64(model, compiled, tokens(256, 128), 2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("count", [64, MANY])
@pytest.mark.usefixtures("machine")
def test_a_layer_norm_adds_the_gradients_of_gain_and_shift_in_float32(count: int, dtype: torch.dtype):
    narrow, exact = LayerNorm(16).to(dtype), LayerNorm(16).double()
    x, grad = noise_like(torch.empty(count, 16)).to(dtype), (noise_like(torch.empty(count, 16), 1) + 0.5).to(dtype)
    narrow(x).backward(grad)
    exact(x.double()).backward(grad.double())
    for one, other in zip(narrow.parameters(), exact.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        # 4e-3: the sum is rounded once, to 8 bits.
        assert (one.grad.double() - other.grad).norm() <= 4e-3 * other.grad.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.usefixtures("machine")
def test_a_table_adds_the_gradients_of_its_rows_in_float32(compiled: bool, dtype: torch.dtype):
    narrow, exact = LookupTable(5, 16).to(dtype), LookupTable(5, 16).double()
    ids, grad = frequent(256, 128) % 5, (noise_like(torch.empty(256, 128, 16)) + 0.5).to(dtype)
    (torch.compile(narrow) if compiled else narrow)(ids).backward(grad)
    exact(ids).backward(grad.double())
    assert narrow.weight.grad is not None
    assert exact.weight.grad is not None
    assert (narrow.weight.grad.double() - exact.weight.grad).norm() <= 4e-3 * exact.weight.grad.norm()


def test_tokens_segments_and_positions_of_a_model_in_half_precision_learn_alike():
    """Positions differ from row to row here, as padding makes them."""
    encoder = Encoder(schemes.parse("pre-norm"), vocab_size=11, d_model=16, num_heads=2, num_layers=1, d_ff=24,
                      position="learned", max_tokens=128, segments=2)  # fmt: skip
    narrow = encoder.embedding.bfloat16()
    exact = copy.deepcopy(narrow).double()
    assert isinstance(narrow, Embedding)
    ids, positions = frequent(256, 128), torch.arange(128).expand(256, -1)
    grad = (noise_like(torch.empty(256, 128, 16)) + 0.5).bfloat16()
    narrow(ids, positions, ids % 2).backward(grad)
    exact(ids, positions, ids % 2).backward(grad.double())
    others = dict(exact.named_parameters())
    for name, one in narrow.named_parameters():
        assert one.grad is not None
        expected = others[name].grad
        assert expected is not None
        assert (one.grad.double() - expected).norm() <= 4e-3 * expected.norm(), name
