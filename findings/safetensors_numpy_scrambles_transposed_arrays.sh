#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.save_file` writes a transposed array's numbers in the wrong order, in
# silence.
#
# Expected: an array that is not contiguous is copied into C order first, as `numpy.save` does, or refused, as
# `safetensors.torch.save_file` refuses such a tensor.
# Observed: shape and dtype are right and the numbers are in the wrong places: `a.T`, an array in Fortran order and one
# with every second column are each read back as other arrays. Only what went through `np.ascontiguousarray` is right.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

rows = np.arange(6).reshape(2, 3)
arrays = {
    "contiguous": rows,
    "transposed": rows.T,
    "Fortran order": np.asfortranarray(rows),
    "every second column": rows[:, ::2],
    "transposed, made contiguous": np.ascontiguousarray(rows.T),
}
with tempfile.TemporaryDirectory() as folder:
    save_file(arrays, f"{folder}/arrays.safetensors")
    read = load_file(f"{folder}/arrays.safetensors")
same = {name: bool(np.array_equal(read[name], array)) for name, array in arrays.items()}
for name, array in arrays.items():
    print(f"{name}: saved {array.tolist()}, read {read[name].tolist()}, same: {same[name]}")
assert list(same.values()) == [True, False, False, False, True], "the behaviour has changed"
PYTHON
