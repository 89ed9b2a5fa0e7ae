#!/usr/bin/env bash
# PyTorch 2.13.0: whether a row of only padding gives NaN or 0 depends on `need_weights`, `eval` and `no_grad`.
#
# Expected: `nn.MultiheadAttention` treats a sequence whose keys are all masked in one way: NaN (softmax of -inf
# only), or 0 as `scaled_dot_product_attention` has done since 2.5.
# Observed: the same module on the same input gives the output bias (here 0) with `need_weights=False` while
# gradients are enabled or in train mode, but NaN with `need_weights=True`, and NaN with `need_weights=False` in
# eval mode under `no_grad`: a model trains without a NaN and evaluates to NaN.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

torch.manual_seed(0)
attention, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(1, 3, 8)
padding = torch.ones(1, 3, dtype=torch.bool)


def first(need_weights):
    output = attention(x, x, x, key_padding_mask=padding, need_weights=need_weights)[0]
    return "NaN" if output.isnan().all() else str(output.abs().max().item())


seen = {}
for mode in ("train", "eval"):
    getattr(attention, mode)()
    for grad in (True, False):
        for need_weights in (False, True):
            with torch.set_grad_enabled(grad):
                seen[mode, grad, need_weights] = first(need_weights)
            print(f"{mode}, gradients {grad}, need_weights {need_weights}: {seen[mode, grad, need_weights]}")
zero = {case for case, value in seen.items() if value == "0.0"}
assert zero == {("train", True, False), ("train", False, False), ("eval", True, False)}, "the behaviour has changed"
assert set(seen.values()) == {"0.0", "NaN"}, "the behaviour has changed"
PYTHON
