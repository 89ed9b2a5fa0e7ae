"""Faults put into models of transformers, as they are met there: each is found at its place, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import addnorm
from diagnosis.models_of_others import GROUPED, VOCAB, WIDTH, hugging_face, ids

LAYERS = 6


def llama() -> nn.Module:
    return hugging_face("LlamaForCausalLM", "LlamaConfig", **GROUPED | {"num_hidden_layers": LAYERS})[0]


def gpt2() -> nn.Module:
    size = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 16}
    return hugging_face("GPT2LMHeadModel", "GPT2Config", **size)[0]


def found(model: nn.Module) -> list[tuple[str, str]]:
    return [(one.cause, one.place) for one in addnorm.diagnose(model, {"input_ids": ids()}, measures=()).findings]


class Twice(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.second = norm, nn.RMSNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Leaking(nn.Module):
    """An attention whose layer adds what comes one token later."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.attention(*args, **kwargs)
        return (output[0] + 0.1 * output[0].roll(-1, dims=1), *output[1:])


def louder(model: nn.Module) -> tuple[str, str]:
    linear = model.model.layers[3].mlp.down_proj
    with torch.no_grad():
        linear.weight.mul_(50)
    return "mis-scaled branch", "model.layers.3.mlp"


def unnormed(model: nn.Module) -> tuple[str, str]:
    model.model.layers[2].post_attention_layernorm = nn.Identity()
    return "missing norm", "model.layers.2.mlp"


def normed_twice(model: nn.Module) -> tuple[str, str]:
    layer = model.model.layers[4]
    layer.input_layernorm = Twice(layer.input_layernorm)
    return "doubled norm", "model.layers.4.self_attn"


def skipless(model: nn.Module) -> tuple[str, str]:
    layer = model.model.layers[3]

    def forward(hidden_states: Tensor, **kwargs: Any) -> Tensor:
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        return layer.mlp(layer.post_attention_layernorm(hidden_states))

    layer.forward = forward
    return "dropped skip", "model.layers.3.mlp"


def leaking(model: nn.Module) -> tuple[str, str]:
    layer = model.model.layers[1]
    layer.self_attn = Leaking(layer.self_attn)
    return "non-causal mixing", "model.layers.1.self_attn"


def infinite(model: nn.Module) -> tuple[str, str]:
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight[0, 0] = torch.nan
    return "non-finite values", "model.layers.2.self_attn"


@pytest.mark.parametrize("harm", [louder, unnormed, normed_twice, skipless, leaking, infinite])
def test_a_fault_in_llama_is_found_at_its_place(harm: Callable[[nn.Module], tuple[str, str]]) -> None:
    model = llama()
    assert found(model) == []
    expected = harm(model)
    assert found(model) == [expected]


def test_a_dead_output_in_gpt2_is_found_at_its_place() -> None:
    model = gpt2()
    assert found(model) == []
    block = model.transformer.h[3]
    for parameter in block.mlp.c_proj.parameters():
        nn.init.zeros_(parameter).requires_grad_(False)
    assert found(model) == [("dead gate", "transformer.h.3.mlp")]
