"""The trunk of any model is found without being told, and its trace adds up."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from addnorm.diagnosis.find import find
from addnorm.diagnosis.tracer import logits_of, trace
from addnorm.diagnosis.trunk import Sublayer, Trunk
from diagnosis.models_of_others import MODELS


@cache
def model_of(name: str) -> tuple[nn.Module, Any]:
    return MODELS[name]()


def size_of_output(output: Any) -> Tensor:
    return logits_of(output).float().square().mean()


def layers(*written: str, count: int = 3, **common: Any) -> list[Sublayer]:
    """Sublayers of `count` equal layers.

    Args:
        written: one a sublayer: "name kind", then "before=", "after=", "trunk=" with the names of norms; names lie
            in `block`, whose "{}" is the layer's number.
    """
    block, found = common["block"], []
    for layer in range(count):
        here = block.format(layer)
        for line in written:
            name, kind, *norms = line.split()
            named = dict(norm.split("=") for norm in norms)
            fields = {"before": "norm_before", "after": "norm_after", "trunk": "norm_on_trunk"}
            found.append(
                Sublayer(
                    index=len(found),
                    name=f"{here}.{name}",
                    block=here,
                    kind=kind,  # type: ignore[arg-type]
                    **{fields[place]: f"{here}.{norm}" for place, norm in named.items()},
                )
            )
    return found


LLAMA = ("self_attn attention before=input_layernorm", "mlp feedforward before=post_attention_layernorm")
GEMMA2 = (
    "self_attn attention before=input_layernorm after=post_attention_layernorm",
    "mlp feedforward before=pre_feedforward_layernorm after=post_feedforward_layernorm",
)
NEOX = ("attention attention before=input_layernorm", "mlp feedforward before=post_attention_layernorm")
BART = ("self_attn attention trunk=self_attn_layer_norm", "fc2 feedforward trunk=final_layer_norm")

# By model, each trunk: name, final norm, head, sublayers.
EXPECTED: dict[str, list[tuple[str, str | None, str | None, list[Sublayer]]]] = {
    "llama": [("model", "model.norm", "lm_head", layers(*LLAMA, block="model.layers.{}"))],
    "qwen3": [("model", "model.norm", "lm_head", layers(*LLAMA, block="model.layers.{}"))],
    "gpt2": [
        (
            "transformer",
            "transformer.ln_f",
            "lm_head",
            layers("attn attention before=ln_1", "mlp feedforward before=ln_2", block="transformer.h.{}"),
        )
    ],
    "bert": [
        (
            "bert.encoder",
            None,
            None,
            layers(
                "attention.output.dense attention trunk=attention.output.LayerNorm",
                "output.dense feedforward trunk=output.LayerNorm",
                block="bert.encoder.layer.{}",
            ),
        )
    ],
    "gemma2": [("model", "model.norm", "lm_head", layers(*GEMMA2, block="model.layers.{}"))],
    "olmo2": [
        (
            "model",
            "model.norm",
            "lm_head",
            layers(
                "self_attn attention after=post_attention_layernorm",
                "mlp feedforward after=post_feedforward_layernorm",
                block="model.layers.{}",
            ),
        )
    ],
    "gpt_neox": [("gpt_neox", "gpt_neox.final_layer_norm", "lm_head", layers(*NEOX, block="gpt_neox.layers.{}"))],
    "cohere": [
        (
            "model",
            "model.norm",
            "lm_head",
            layers(
                "self_attn attention before=input_layernorm",
                "mlp feedforward before=input_layernorm",
                block="model.layers.{}",
            ),
        )
    ],
    "t5": [
        (
            "encoder",
            "encoder.final_layer_norm",
            None,
            layers(
                "layer.0.SelfAttention attention before=layer.0.layer_norm",
                "layer.1.DenseReluDense feedforward before=layer.1.layer_norm",
                block="encoder.block.{}",
                count=2,
            ),
        ),
        (
            "decoder",
            "decoder.final_layer_norm",
            "lm_head",
            layers(
                "layer.0.SelfAttention attention before=layer.0.layer_norm",
                "layer.1.EncDecAttention cross-attention before=layer.1.layer_norm",
                "layer.2.DenseReluDense feedforward before=layer.2.layer_norm",
                block="decoder.block.{}",
                count=2,
            ),
        ),
    ],
    "bart": [
        ("model.encoder", None, None, layers(*BART, block="model.encoder.layers.{}", count=2)),
        (
            "model.decoder",
            None,
            "lm_head",
            layers(
                BART[0],
                "encoder_attn cross-attention trunk=encoder_attn_layer_norm",
                BART[1],
                block="model.decoder.layers.{}",
                count=2,
            ),
        ),
    ],
    "vit": [
        (
            "vit",
            "vit.layernorm",
            "classifier",
            layers(
                "attention attention before=layernorm_before",
                "mlp feedforward before=layernorm_after",
                block="vit.layers.{}",
            ),
        )
    ],
    "torch, Pre-LN": [
        (
            "",
            "norm",
            None,
            layers("self_attn attention before=norm1", "linear2 feedforward before=norm2", block="layers.{}"),
        )
    ],
    "torch, Post-LN": [
        (
            "",
            None,
            None,
            layers("self_attn attention trunk=norm1", "linear2 feedforward trunk=norm2", block="layers.{}"),
        )
    ],
    "x-transformers": [
        (
            "attn_layers",
            "attn_layers.final_norm",
            "to_logits",
            [
                Sublayer(
                    index=i,
                    name=f"attn_layers.layers.{i}.1",
                    block=f"attn_layers.layers.{i}",
                    kind="feedforward" if i % 2 else "attention",
                    norm_before=f"attn_layers.layers.{i}.0.0",
                )
                for i in range(6)
            ],
        )
    ],
    "by hand": [
        (
            "",
            "",
            None,
            [
                Sublayer(index=i, name="", kind="feedforward" if i % 2 else "attention", norm_before="")
                for i in range(6)
            ],
        )
    ],
}
EXPECTED["gpt_neox, parallel"] = EXPECTED["gpt_neox"]


def without_parameters(trunk: Trunk) -> list[Sublayer]:
    return [dataclasses.replace(sublayer, parameters=()) for sublayer in trunk.sublayers]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_trunk_is_found_with_its_names_kinds_and_norms(name: str) -> None:
    found = find(*model_of(name))
    assert [(one.name, one.final_norm, one.head, without_parameters(one)) for one in found] == EXPECTED[name]
    assert all(one.layout == "one stream" and one.streams == 1 and one.where == "alone" for one in found)
    assert all(one.certainty > 0.8 for one in found)


@pytest.mark.parametrize("name", EXPECTED)
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
                assert torch.equal(found.reads[i], read)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_gradient_of_the_loss_reaches_every_state(name: str) -> None:
    model, batch = model_of(name)
    found = trace(model, batch, loss=size_of_output)[-1]
    assert len(found.state_gradients) == len(found.states)
    for state, gradient in zip(found.states, found.state_gradients, strict=True):
        assert gradient is not None and gradient.shape == state.shape and gradient.abs().sum() > 0
