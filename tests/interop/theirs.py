"""Small models of transformers, every parameter off its special initial value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from oracles.ties import randomise_

VOCAB = 23
LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def bert(**changes: object) -> nn.Module:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    sizes |= {"vocab_size": VOCAB, "type_vocab_size": 3, "max_position_embeddings": 19} | changes
    return BertModel(BertConfig(**sizes))


def gpt2(**changes: object) -> nn.Module:
    sizes = {"vocab_size": VOCAB, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 19} | changes
    return GPT2LMHeadModel(GPT2Config(**sizes))


def llama(**changes: object) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**(LLAMA | changes)))


def mistral(**changes: object) -> nn.Module:
    return MistralForCausalLM(MistralConfig(**(LLAMA | {"sliding_window": None} | changes)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "BERT": bert,
    "BERT with ReLU": lambda: bert(hidden_act="relu", layer_norm_eps=1e-5),
    "GPT-2": gpt2,
    "GPT-2 with exact GELU, an inner width and a head of its own": lambda: gpt2(
        activation_function="gelu", n_inner=56, tie_word_embeddings=False, layer_norm_epsilon=1e-6
    ),
    "Llama": llama,
    "Llama, tied, with another rotary base": lambda: llama(
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, rms_norm_eps=1e-5
    ),
    "Mistral without sliding window": mistral,
}


def made(name: str, dtype: torch.dtype) -> nn.Module:
    model = MODELS[name]()
    randomise_(model)
    return model.to(dtype).eval()


def ids(rows: int = 3, tokens: int = 9, vocabulary: int = VOCAB) -> Tensor:
    return torch.randint(0, vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(1))


def keep(rows: int = 3, tokens: int = 9) -> Tensor:
    """Which tokens are real: rows of different length, padded on the right."""
    return torch.arange(tokens) < torch.tensor([[tokens], [tokens - 2], [tokens - 5]])[:rows]


def with_exact_angles_(model: nn.Module) -> None:
    """Rotary frequencies as exact as the model: theirs are rounded to float32 where they are made."""
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            base, half = model.config.rope_parameters["rope_theta"], len(module.inv_freq)
            module.inv_freq = base ** (-torch.arange(half, dtype=torch.float64) / half).to(model.dtype)


def output(model: nn.Module, tokens: Tensor, real: Tensor, segments: Tensor | None = None) -> Tensor:
    """Logits of a decoder, hidden vectors of an encoder."""
    extra = {} if segments is None else {"token_type_ids": segments}
    result = model(input_ids=tokens, attention_mask=real.long(), **extra)
    return result.logits if hasattr(result, "logits") else result.last_hidden_state
