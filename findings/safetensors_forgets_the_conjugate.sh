#!/usr/bin/env bash
# safetensors 0.8.0 with PyTorch 2.13.0: a conjugated tensor is stored without its conjugation.
#
# Expected: what is read back equals what was saved (as with `torch.save`), or a lazy view is refused as other views
# are: a transposed tensor raises.
# Observed: `x.conj()` only sets a bit on the memory of x, counts as contiguous, and the memory is written: the
# imaginary parts come back with the other sign. After `resolve_conj()` they are right.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import tempfile

import torch
from safetensors.torch import load_file, save_file

x = torch.tensor([1 + 2j, 3 - 4j])
tensors = {"x": x.clone(), "conjugate": x.conj(), "conjugate, resolved": x.clone().conj().resolve_conj()}
buffer = io.BytesIO()
torch.save(tensors, buffer)
buffer.seek(0)
by_torch = torch.load(buffer)
with tempfile.TemporaryDirectory() as folder:
    save_file(tensors, f"{folder}/tensors.safetensors")
    read = load_file(f"{folder}/tensors.safetensors")
    try:
        save_file({"transposed": torch.ones(2, 3).T}, f"{folder}/other.safetensors")
        refused = False
    except ValueError:
        refused = True
for name, tensor in tensors.items():
    print(f"{name}: saved {tensor.tolist()}, torch.save {by_torch[name].tolist()}, safetensors {read[name].tolist()}")
print("a transposed tensor is refused:", refused)
assert all(torch.equal(by_torch[name], tensor) for name, tensor in tensors.items()) and refused
assert [torch.equal(read[name], tensor) for name, tensor in tensors.items()] == [True, False, True], (
    "the behaviour has changed"
)
PYTHON
