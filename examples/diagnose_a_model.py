"""What is wrong with a model of somebody else: a Llama of transformers in which one layer has lost its skip.

Without transformers the same is shown on torch's own encoder. A folder of weights: `addnorm diagnose ./llama-folder`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import addnorm


def llama() -> tuple[nn.Module, Any]:
    """A small Llama with fresh weights, and ids to call it with."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=False, **shape))
    model.model.layers[2].forward = without_its_second_skip(model.model.layers[2])
    return model, {"input_ids": torch.randint(64, (2, 12))}


def without_its_second_skip(layer: Any) -> Any:
    """The layer's forward as a slip of the hand would leave it."""

    def forward(state: torch.Tensor, **rest: Any) -> torch.Tensor:
        state = state + layer.self_attn(hidden_states=layer.input_layernorm(state), **rest)[0]
        return layer.mlp(layer.post_attention_layernorm(state))  # here "state +" is missing

    return forward


def encoder() -> tuple[nn.Module, Any]:
    """torch's encoder, in which one layer writes 50 times too much, and a batch of vectors."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 4, norm=nn.LayerNorm(32), enable_nested_tensor=False)
    with torch.no_grad():
        model.layers[2].linear2.weight.mul_(50.0)
    return model, torch.randn(2, 12, 32)


def main() -> list[str]:
    torch.manual_seed(0)
    try:
        model, batch = llama()
    except ImportError:
        model, batch = encoder()
    found = addnorm.diagnose(model, batch, measures="quick")
    print(found)
    for fault in found.findings:
        print(f"\n{fault.cause} at {fault.place}\n  seen: {fault.evidence}\n  what to do: {fault.remedy}")
    depths = found.trunks[0].of("state rms").values
    print("\nRoot mean square of the state by depth:", " ".join(f"{value:.3f}" for value in depths))
    return [fault.cause for fault in found.findings]


if __name__ == "__main__":
    main()
