"""The trunk of any model is found without being told, and its trace adds up."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from addnorm.diagnosis.find import find
from addnorm.diagnosis.subject import Subject
from addnorm.diagnosis.tracer import logits_of, trace
from addnorm.diagnosis.trunk import Sublayer, Trunk
from diagnosis.expected_trunks import EXPECTED, LAYOUTS
from diagnosis.models_of_others import MODELS, addnorms


@cache
def model_of(name: str) -> tuple[nn.Module, Any]:
    return MODELS[name]()


def size_of_output(output: Any) -> Tensor:
    return logits_of(output).float().square().mean()


def without_parameters(trunk: Trunk) -> list[Sublayer]:
    return [dataclasses.replace(sublayer, parameters=()) for sublayer in trunk.sublayers]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_trunk_is_found_with_its_names_kinds_and_norms(name: str) -> None:
    found = find(*model_of(name))
    assert [(one.name, one.final_norm, one.head, without_parameters(one)) for one in found] == EXPECTED[name]
    layout = LAYOUTS.get(name, ("one stream", 1, "alone"))
    assert all((one.layout, one.streams, one.where) == layout for one in found)
    assert all(one.certainty > 0.8 for one in found)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in LAYOUTS])
def test_states_reads_and_writes_add_up(name: str) -> None:
    model, batch = model_of(name)
    for found in trace(model, batch, loss=size_of_output):
        for i, sublayer in enumerate(found.trunk.sublayers):
            total = found.states[i].squeeze(-2) + found.writes[i]
            if sublayer.norm_on_trunk:
                total = model.get_submodule(sublayer.norm_on_trunk)(total)
            # The sum of a parallel block is rounded in another order.
            torch.testing.assert_close(found.states[i + 1].squeeze(-2), total, rtol=1e-6, atol=1e-6)
            read = found.states[i].squeeze(-2)
            if sublayer.norm_before and "parallel" not in name and name != "cohere":
                read = model.get_submodule(sublayer.norm_before)(read)
            if sublayer.norm_before != "" and "parallel" not in name and name != "cohere":
                torch.testing.assert_close(found.reads[i], read, rtol=1e-5, atol=1e-6)  # a kernel rounds otherwise


# A norm of several streams together and maps of single streams stand before the end of these, and a first stream that
# moves alone for a while.
CLOSED = [name for name in LAYOUTS if name not in ("qwen4_exp", "gemma3n")]


@pytest.mark.parametrize("name", CLOSED)
def test_streams_and_histories_are_followed_from_the_embedding_to_the_end(name: str) -> None:
    model, batch = model_of(name)
    (found,) = trace(model, batch)
    model.eval()
    whole = Subject(trace=found, model=model).decomposition
    assert whole is not None and whole.error < 1e-6  # float32; measured: 8e-8
    assert all(read is not None and read.shape == found.writes[0].shape for read in found.reads)


@pytest.mark.parametrize(
    "scheme",
    [
        *("hyper-connections", "static-hyper-connections", "krom-hc", "single-pass-mhc", "deepseek-mhc"),
        *("deep-norm", "real-former", "unet-skips", "residual-lambdas", "beam", "rezero", "value-residual"),
    ],
)
def test_schemes_that_nobody_told_it_of_are_followed_too(scheme: str) -> None:
    model, batch = addnorms(scheme)
    (found,) = trace(model, batch)
    model.eval()
    whole = Subject(trace=found, model=model).decomposition
    assert [one.name for one in found.trunk.sublayers] == [f"stack.blocks.{i}.sublayer" for i in range(6)]
    assert whole is not None and whole.error < 1e-6  # float32


def test_a_stream_that_moves_alone_is_the_active_one() -> None:
    model, batch = model_of("gemma3n")
    (found,) = trace(model, batch)
    attention, laurel = found.writes[0], found.writes[1]
    before, between, after = found.states[:3]
    assert before.shape == between.shape == after.shape == (2, 8, 4, 32)
    torch.testing.assert_close(after[..., 0, :], between[..., 0, :] + laurel)
    assert torch.equal(after[..., 1:, :], between[..., 1:, :])
    assert not torch.equal(between[..., 0, :] - attention, before[..., 0, :])  # the layer's own prediction lies between


@pytest.mark.parametrize("name", EXPECTED)
def test_the_gradient_of_the_loss_reaches_every_state(name: str) -> None:
    model, batch = model_of(name)
    found = trace(model, batch, loss=size_of_output)[-1]
    assert len(found.state_gradients) == len(found.states)
    for state, gradient in zip(found.states, found.state_gradients, strict=True):
        assert gradient is not None and gradient.shape == state.shape and gradient.abs().sum() > 0
