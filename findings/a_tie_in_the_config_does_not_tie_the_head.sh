#!/usr/bin/env bash
# transformers 5.23.0: with `tie_word_embeddings: true`, a head in the file is kept apart, until a resize throws it
# away.
#
# Expected: the configuration decides: a model whose config ties its head to the embedding ignores an
# `lm_head.weight` in the checkpoint.
# Observed: if the file's `lm_head.weight` differs from the embedding, the two are not tied (a warning says so), the
# config still says that they are, and saving writes both. `tie_weights()` and `resize_token_embeddings()`, which
# asks for nothing but more rows, then tie them without a word: the head that was loaded is gone and the same tokens
# get other logits.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 safetensors==0.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                     num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
tokens = torch.tensor([[1, 2, 3]])


def tied(model):
    return model.lm_head.weight is model.model.embed_tokens.weight


with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as again:
    LlamaForCausalLM(config).save_pretrained(folder)
    file = Path(folder, "model.safetensors")
    stored = load_file(file)
    assert "lm_head.weight" not in stored
    save_file(stored | {"lm_head.weight": torch.randn(16, 8)}, file, {"format": "pt"})
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    print(f"loaded: config says tied {model.config.tie_word_embeddings}, tied {tied(model)}")
    seen = [model.config.tie_word_embeddings, tied(model)]
    model.save_pretrained(again)
    seen.append("lm_head.weight" in load_file(Path(again, "model.safetensors")))
    print(f"saved again: the head is in the file {seen[-1]}")
    before = model(tokens).logits
    model.resize_token_embeddings(20)
    away = (model(tokens).logits[..., :16] - before).abs().max().item()
    print(f"resized: tied {tied(model)}, logits of the old tokens moved by {away:.2f} of {before.abs().max().item():.2f}")
    seen += [tied(model), away > 0.1]
assert seen == [True, False, True, True, True], "the behaviour has changed"
PYTHON
