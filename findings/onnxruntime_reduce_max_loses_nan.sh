#!/usr/bin/env bash
# onnxruntime 1.32.0 on a CPU: `ReduceMax` passes over a NaN unless it stands first; `Max` of two tensors does not.
#
# Expected: as `torch.amax` and `np.max` do, the maximum of numbers with a NaN among them is NaN, wherever it
# stands; an exported check "is the largest activation finite?" still works.
# Observed: [NaN, 1, 2] gives NaN, [1, NaN, 2] and [1, 2, NaN] give 2. `ArgMax` gives the place of the 2. The
# element-wise `Max` gives NaN, and so does the reference of the onnx package for all three.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def run(operator, *arrays):
    names = [f"in{n}" for n in range(len(arrays))]
    typed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in names]
    kind = TensorProto.INT64 if operator == "ArgMax" else TensorProto.FLOAT
    made = [helper.make_tensor_value_info("out", kind, None)]
    graph = helper.make_graph([helper.make_node(operator, names, ["out"])], "graph", typed, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = dict(zip(names, arrays, strict=True))
    return session.run(None, given)[0].max(), ReferenceEvaluator(model).run(None, given)[0].max()


seen = {}
for place in range(3):
    numbers = np.insert(np.array([1, 2], np.float32), place, np.nan)
    for operator, arrays in (("ReduceMax", [numbers]), ("Max", [numbers, np.zeros(3, np.float32)])):
        seen[operator, place] = [bool(np.isnan(value)) for value in run(operator, *arrays)]
        print(f"{operator} of {numbers.tolist()}: NaN in onnxruntime {seen[operator, place][0]}, "
              f"in the reference {seen[operator, place][1]}")  # fmt: skip
place = int(run("ArgMax", np.array([1, np.nan, 2], np.float32))[0])
print("ArgMax of [1, NaN, 2]:", place)
assert [seen["ReduceMax", n] for n in range(3)] == [[True, True], [False, True], [False, True]], "the behaviour has changed"
assert all(seen["Max", n] == [True, True] for n in range(3)) and place == 2, "the behaviour has changed"
PYTHON
