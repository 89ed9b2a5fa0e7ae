"""Modules of others, called as they are: with ids, masks, keywords; encoders; parameters that a call does not use."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from addnorm import certify
from addnorm.certificates.certificate import Certificate
from addnorm.errors import UserError

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 96,
}
IDS = torch.arange(10).reshape(2, 5)
MASK = torch.ones_like(IDS)
LEARNS = "every parameter learns"


def model(family: str, kind: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, f"{family}{kind}")(getattr(transformers, f"{family}Config")(**SIZES))


@pytest.mark.parametrize("example", [{"input_ids": IDS, "attention_mask": MASK}, (IDS, MASK)])
def test_a_language_model_is_called_with_ids_and_masks(example: Any) -> None:
    found = certify(model("Llama", "ForCausalLM"), example=example)
    assert found.holds, str(found)
    assert found.finding("causal").verdict == "holds"


def test_a_language_model_is_called_with_vectors() -> None:
    assert certify(model("Llama", "Model"), example={"inputs_embeds": torch.randn(2, 5, 32)}).holds


@pytest.mark.parametrize("kind", ["Model", "ForSequenceClassification"])
def test_an_encoder_says_that_it_is_not_causal(kind: str) -> None:
    found = certify(model("Bert", kind), example={"input_ids": IDS, "token_type_ids": 0 * IDS}, causal=False)
    assert found.holds, str(found)
    assert found.finding("causal").verdict == "not applicable"


def test_an_encoder_that_does_not_say_so_is_not_causal() -> None:
    assert certify(model("Bert", "Model"), example=IDS).finding("causal").verdict == "fails"


def test_torchs_encoder_says_that_it_is_not_causal() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    assert certify(nn.TransformerEncoder(layer, 2), causal=False).holds


class Idle(nn.Module):
    """A module with a part that it never calls, and one behind a gate that never opens."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("gate", torch.tensor(gate))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.used(x)


def learning(module: nn.Module) -> Certificate:
    return certify(module, example=torch.randn(2, 5, 8))


def test_a_parameter_that_the_call_does_not_use_is_named_and_is_no_fault() -> None:
    found = learning(Idle(1.0)).finding(LEARNS)
    assert found.verdict == "holds"
    assert "Not used by this call: unused.bias, unused.weight" in found.sentence


def test_a_parameter_behind_a_gate_that_never_opens_is_dead() -> None:
    found = learning(Idle(0.0)).finding(LEARNS)
    assert found.verdict == "fails"
    assert "never: used.bias, used.weight" in found.sentence


def test_an_example_without_ids_or_vectors_is_refused() -> None:
    with pytest.raises(UserError, match="token ids"):
        certify(Idle(1.0), example=torch.randn(3))
