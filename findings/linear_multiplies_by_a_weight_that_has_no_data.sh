#!/usr/bin/env bash
# PyTorch 2.13.0 on a CPU: a linear map whose weight is still on the `meta` device returns numbers.
#
# Expected: a weight on `meta` (a model built without memory, of which one parameter was never loaded) either raises
# at its first use, as `layer_norm`, `rms_norm` and `+` do, or makes the result `meta` too, as `embedding` and `bmm`
# do.
# Observed: `F.linear`, `@` of two matrices and `F.conv1d` return a CPU tensor of the right shape, filled with
# whatever the memory held: the weight has no data to multiply by. Only a bias on `meta` makes `F.linear` raise.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

ones, weight = torch.ones(2, 4), torch.empty(3, 4, device="meta")
calls = {
    "linear": lambda: F.linear(ones, weight),
    "linear, bias on the CPU": lambda: F.linear(ones, weight, torch.zeros(3)),
    "linear, bias on meta": lambda: F.linear(ones, weight, torch.zeros(3, device="meta")),
    "matmul": lambda: ones @ weight.T,
    "conv1d": lambda: F.conv1d(torch.ones(1, 4, 5), torch.empty(3, 4, 2, device="meta")),
    "bmm": lambda: torch.bmm(ones[None], weight.T[None]),
    "embedding": lambda: F.embedding(torch.tensor([0]), weight),
    "layer_norm": lambda: F.layer_norm(ones, (4,), weight[0], weight[0]),
    "rms_norm": lambda: F.rms_norm(ones, (4,), weight[0]),
    "add": lambda: ones[0] + weight[0],
}


def outcome(call):
    try:
        return call().device.type
    except RuntimeError:
        return "raises"


seen = {name: outcome(call) for name, call in calls.items()}
for name, what in seen.items():
    print(f"{name}: {what}")
assert list(seen.values()) == ["cpu", "cpu", "raises", "cpu", "cpu", "meta", "meta", "raises", "raises", "raises"], (
    "the behaviour has changed"
)
PYTHON
