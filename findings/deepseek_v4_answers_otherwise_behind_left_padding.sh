#!/usr/bin/env bash
# transformers 5.23.0: DeepSeek-V4's logits change with the number of padding tokens on the left.
#
# Expected: with `attention_mask` and `position_ids` set, padding on the left (what batched generation asks for)
# changes logits by rounding only, as it does for Llama and for this model's sliding-window layers.
# Observed: so it is in the sliding-window layers. In a compressed layer (four keys to a group) a single padding token
# on the left moves the logits of an 8-token prompt by a third of the largest one; four, a whole group, by more.
# Padding on the right changes nothing, nor does splitting the prompt between two calls with a cache.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

TOKENS, seen = 8, {}
for kind in ("sliding_attention", "compressed_sparse_attention"):
    torch.manual_seed(0)
    model = DeepseekV4ForCausalLM(DeepseekV4Config(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, layer_types=[kind], initializer_range=0.2)).eval()  # fmt: skip
    tokens = torch.randint(3, 32, (1, TOKENS))
    with torch.no_grad():
        plain = model(tokens).logits
        half = model(tokens[:, :5], use_cache=True)
        cached = model(tokens[:, 5:], past_key_values=half.past_key_values).logits
        moved = {"two calls": (cached - plain[:, 5:]).abs().max().item()}
        right = model(torch.cat([tokens, torch.zeros(1, 1, dtype=torch.long)], 1)).logits[:, :TOKENS]
        moved["1 on the right"] = (right - plain).abs().max().item()
        for padding in (1, 2, 4):
            mask = torch.cat([torch.zeros(1, padding, dtype=torch.long), torch.ones_like(tokens)], 1)
            padded = torch.cat([torch.zeros(1, padding, dtype=torch.long), tokens], 1)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            left = model(padded, attention_mask=mask, position_ids=positions).logits[:, padding:]
            moved[f"{padding} on the left"] = (left - plain).abs().max().item()
    print(f"{kind}: largest logit {plain.abs().max().item():.2f}; moved by", {k: f"{v:.1e}" for k, v in moved.items()})
    seen[kind] = [value > 0.1 * plain.abs().max().item() for value in moved.values()]
    assert all(value < 1e-4 for value in list(moved.values())[:2]), "the behaviour has changed"
assert seen["sliding_attention"] == [False] * 5, "the behaviour has changed"
assert seen["compressed_sparse_attention"] == [False, False, True, True, True], "the behaviour has changed"
PYTHON
