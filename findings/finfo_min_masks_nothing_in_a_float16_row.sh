#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: a row masked all over with `finfo(dtype).min` is uniform in bfloat16 and unmasked in
# float16.
#
# Expected: adding `torch.finfo(dtype).min` to every score of a row makes its softmax uniform, since the scores
# vanish beside it: the output is the mean of the values. In float16, -65504 plus a score of size 1 is -65504 again.
# Observed: so it is in bfloat16, float32 and float64. In float16 `scaled_dot_product_attention` adds the mask to
# scores in float32, where -65504 swallows nothing: the row's output is that of no mask at all.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

torch.manual_seed(0)
query, key, value = (torch.randn(1, 1, 4, 8) for _ in range(3))
seen = {}
for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
    q, k, v = (tensor.to(dtype) for tensor in (query * 3, key, value))
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.full((4, 4), torch.finfo(dtype).min, dtype=dtype))
    unmasked, mean = F.scaled_dot_product_attention(q, k, v), v.mean(-2, keepdim=True).expand_as(v)
    away = [(masked - other).abs().max().item() for other in (unmasked, mean)]
    print(f"{dtype}: {away[0]:.4f} away from no mask, {away[1]:.4f} away from the mean")
    seen[dtype] = "unmasked" if away[0] < 0.02 < 0.5 < away[1] else "mean" if away[1] < 0.02 < 0.5 < away[0] else "else"
assert list(seen.values()) == ["unmasked", "mean", "mean", "mean"], "the behaviour has changed"
PYTHON
