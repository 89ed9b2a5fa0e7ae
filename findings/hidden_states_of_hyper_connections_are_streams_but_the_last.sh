#!/usr/bin/env bash
# transformers 5.23.0: `hidden_states` of models with hyper-connections (DeepSeek-V4, HY-V4) has two shapes.
#
# Expected: with `output_hidden_states=True`, one tensor (batch, tokens, width) for the embedding and one after each
# layer, as the type's description says: stack them, or take any layer's for a probe.
# Observed: all but the last are (batch, tokens, 4 streams, width); the first is four copies of the embedding. The
# last is (batch, tokens, width): the streams merged and normalised, so the last layer's streams are not in the
# output. `torch.stack` of them raises, and `hidden_states[1][:, -1]` is a matrix of streams, not the last token's
# state.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM, HYV4Config, HYV4ForCausalLM, LlamaConfig, LlamaForCausalLM

tokens, seen = torch.tensor([[3, 4, 5, 6, 7, 8]]), {}
for config, model in (
    (LlamaConfig, LlamaForCausalLM),
    (DeepseekV4Config, DeepseekV4ForCausalLM),
    (HYV4Config, HYV4ForCausalLM),
):
    made = model(config(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                        num_key_value_heads=1, head_dim=8, pad_token_id=0)).eval()  # fmt: skip
    states = made(tokens, output_hidden_states=True)
    hidden = states.hidden_states
    print(model.__name__, [tuple(state.shape) for state in hidden])
    copies = hidden[0].ndim == 4 and all(torch.equal(hidden[0][..., 0, :], hidden[0][..., n, :]) for n in range(4))
    merged = torch.allclose(made.lm_head(hidden[-1]), states.logits, atol=1e-5)
    seen[model.__name__] = [state.ndim for state in hidden], copies, merged
assert list(seen.values()) == [([3, 3, 3], False, True), ([4, 4, 3], True, True), ([4, 4, 3], True, True)], (
    "the behaviour has changed"
)
PYTHON
