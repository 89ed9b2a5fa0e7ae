#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: gradients of LayerNorm's bias, and of an embedding's rows, stop growing in bfloat16.
#
# Expected: the gradient of LayerNorm's bias is the sum of the output's gradients over all tokens, added up in float32 and
# rounded once, as the gradients of a linear map's bias, of RMSNorm's weight and of `index_select` are. The weights of the
# LayerNorm are float32 here, as under autocast, so that not even the result has to be rounded.
# Observed: with 32,768 tokens whose gradient is 1, LayerNorm gives 256 a thread (256 + 1 is 256 in bfloat16): 256 with one
# thread, 512 with two. `F.embedding` gives 256. `index_select` and `F.linear` give 32,768.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

TOKENS, WIDTH, HALF = 32768, 16, torch.bfloat16


def of_layer_norm(threads):
    torch.set_num_threads(threads)
    weight, bias = torch.ones(WIDTH, requires_grad=True), torch.zeros(WIDTH, requires_grad=True)
    F.layer_norm(torch.randn(TOKENS, WIDTH).to(HALF), (WIDTH,), weight, bias).backward(torch.ones(TOKENS, WIDTH, dtype=HALF))
    return bias.grad[0].item()


def of_table(look_up):
    table = torch.zeros(2, WIDTH, dtype=HALF, requires_grad=True)
    look_up(table, torch.zeros(TOKENS, dtype=torch.long)).backward(torch.ones(TOKENS, WIDTH, dtype=HALF))
    return table.grad[0, 0].item()


def of_linear():
    bias = torch.zeros(WIDTH, dtype=HALF, requires_grad=True)
    F.linear(torch.randn(TOKENS, WIDTH).to(HALF), torch.eye(WIDTH, dtype=HALF), bias).backward(
        torch.ones(TOKENS, WIDTH, dtype=HALF)
    )
    return bias.grad[0].item()


seen = {
    "layer_norm bias (float32), 1 thread": of_layer_norm(1),
    "layer_norm bias (float32), 2 threads": of_layer_norm(2),
    "embedding row": of_table(lambda table, ids: F.embedding(ids, table)),
    "index_select row": of_table(lambda table, ids: table.index_select(0, ids)),
    "linear bias": of_linear(),
}
for name, value in seen.items():
    print(f"{name}: {value:.0f} of {TOKENS}")
assert list(seen.values()) == [256, 512, 256, TOKENS, TOKENS], "the behaviour has changed"
PYTHON
