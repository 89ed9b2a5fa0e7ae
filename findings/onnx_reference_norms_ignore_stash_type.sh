#!/usr/bin/env bash
# ONNX opset 23, onnx 1.23.2 and onnxruntime 1.32.0: the reference evaluator's norms calculate in float16 despite
# stash_type.
#
# Expected: RMSNormalization and LayerNormalization have `stash_type` = 1: the mean of squares is taken in float32
# also for float16 inputs, and the onnx package's reference is what a runtime is compared with.
# Observed: for float16 inputs of size 400 the reference squares in float16, gets inf, and returns 0 everywhere;
# onnxruntime follows the specification and returns numbers of size 1. A test of a runtime against the reference fails
# for the wrong one.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

warnings.simplefilter("ignore")
x = np.array([[400.0, -400.0, 200.0, -100.0]], dtype=np.float16)
inputs = {"x": x, "scale": np.ones(4, dtype=np.float16), "bias": np.zeros(4, dtype=np.float16)}
wide = x.astype(np.float64)
centred = wide - wide.mean()
right = {"RMSNormalization": wide / np.sqrt((wide**2).mean()), "LayerNormalization": centred / centred.std()}
seen = {}
for name, exact in right.items():
    used = {key: inputs[key] for key in ("x", "scale", "bias")[: 2 if name[0] == "R" else 3]}
    typed = [helper.make_tensor_value_info(key, TensorProto.FLOAT16, array.shape) for key, array in used.items()]
    made = [helper.make_tensor_value_info("out", TensorProto.FLOAT16, x.shape)]
    graph = helper.make_graph([helper.make_node(name, list(used), ["out"], stash_type=1)], "graph", typed, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = {"onnxruntime": session.run(None, used)[0], "reference": ReferenceEvaluator(model).run(None, used)[0]}
    for runner, output in outputs.items():
        print(f"{name}, {runner}: {output[0].tolist()}, right {exact[0].round(3).tolist()}")
        seen[name, runner] = bool(np.abs(output - exact).max() < 0.01)
assert list(seen.values()) == [True, False, True, False], "the behaviour has changed"
PYTHON
