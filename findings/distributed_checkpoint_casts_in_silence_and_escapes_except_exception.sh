#!/usr/bin/env bash
# PyTorch 2.13.0: `torch.distributed.checkpoint.load` casts to any dtype in silence, and its error is no
# `Exception`.
#
# Expected: loading into a tensor of another dtype is refused, as another shape is, or at least loses only
# precision; whatever is wrong is caught by `except Exception`.
# Observed: 1e10 stored as float32 becomes -2147483648 in an int32 tensor, inf in a float16 one and True in a bool
# one, without a word. Another shape ((1, 3) for (3,)) raises `CheckpointException`, which derives from
# BaseException: `except Exception` lets it pass. A value that is no tensor takes the place of a tensor: a `step`
# stored as 5 replaces `torch.tensor(0)` by the int 5.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

import torch
import torch.distributed.checkpoint as dcp


def load(folder, **state):
    dcp.load(state, checkpoint_id=folder)
    return state


seen = {}
with tempfile.TemporaryDirectory() as folder:
    dcp.save({"weight": torch.tensor([1.5, 1e10, 3.00001]), "step": 5}, checkpoint_id=folder)
    for dtype in (torch.int32, torch.float16, torch.bool):
        seen[dtype] = load(folder, weight=torch.zeros(3, dtype=dtype))["weight"][1].item()
    seen["a tensor for the step"] = load(folder, step=torch.tensor(0))["step"]
    try:
        load(folder, weight=torch.zeros(1, 3))
    except BaseException as error:
        seen["shape (1, 3)"] = type(error).__name__, isinstance(error, Exception)
for name, value in seen.items():
    print(f"{name}: {value}")
assert list(seen.values()) == [-(2**31), float("inf"), True, 5, ("CheckpointException", False)], (
    "the behaviour has changed"
)
assert type(seen["a tensor for the step"]) is int, "the behaviour has changed"
PYTHON
