#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: `FlopCounterMode` counts fused attention, an encoder layer in eval mode and an LSTM as 0.
#
# Expected: the count of a model is a property of its shapes: two products of 2 B H L L D for attention, whichever
# backend computes it, and the same number with and without gradients.
# Observed: `scaled_dot_product_attention` counts 0 unless the MATH backend is forced (the CPU's fused kernel is not
# in the counter's table, the GPUs' are); `TransformerEncoderLayer` counts 6144 with gradients enabled (of which 0
# for the attention itself) and 0 under `no_grad`, where one fused call replaces the layer; an LSTM counts 0; a
# matrix times a vector counts 0 as `@` and 128 as `F.linear`.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def flops(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


heads, tokens = torch.randn(1, 2, 4, 8), torch.randn(2, 3, 8)
linear, layer = nn.Linear(8, 8), nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
seen = {"attention": flops(lambda: F.scaled_dot_product_attention(heads, heads, heads))}
with sdpa_kernel(SDPBackend.MATH):
    seen["attention, MATH"] = flops(lambda: F.scaled_dot_product_attention(heads, heads, heads))
seen["encoder layer"] = flops(lambda: layer(tokens))
with torch.no_grad():
    seen["encoder layer, no_grad"] = flops(lambda: layer(tokens))
seen["LSTM"] = flops(lambda: nn.LSTM(8, 8)(tokens))
seen["matrix @ vector"] = flops(lambda: linear.weight @ tokens[0, 0])
seen["F.linear of a vector"] = flops(lambda: linear(tokens[0, 0]))
for name, value in seen.items():
    print(f"{name}: {value}")
assert list(seen.values()) == [0, 1024, 6144, 0, 0, 0, 128], "the behaviour has changed"
PYTHON
