#!/usr/bin/env bash
# ONNX opset 23, onnx 1.23.2 and onnxruntime 1.32.0: `Attention(is_causal=1)` has one corner for K and another for a
# cache.
#
# Expected: three queries against five keys see the same keys whether the first two come as `past_key` or as part of
# `K`.
# Observed: with five keys in `K` the mask starts at the top left (the first query sees key 0 only, as in PyTorch's
# `is_causal`), with two in `past_key` and three in `K` it ends at the bottom right (the first query sees keys 0 to
# 2, unlike PyTorch's `is_causal`). onnxruntime and the reference of the onnx package agree on both, so joining a
# cache before the node changes the result without an error.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

random = np.random.default_rng(0)
query, key, value = (random.standard_normal((1, 2, n, 8)).astype(np.float32) for n in (3, 5, 5))


def attention(**inputs):
    names = ["query", "key", "value", "", "past_key", "past_value"]
    names = names if "past_key" in inputs else names[:3]
    outputs = ["out", "present_key", "present_value"] if "past_key" in inputs else ["out"]
    node = helper.make_node("Attention", names, outputs, is_causal=1)
    typed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in inputs.items()]
    made = [helper.make_tensor_value_info("out", TensorProto.FLOAT, query.shape)]
    graph = helper.make_graph([node], "graph", typed, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0], ReferenceEvaluator(model).run(None, inputs)[0]


def right(allowed):
    scores = np.where(allowed, query @ key.swapaxes(-1, -2) / 8**0.5, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ value


every = np.ones((3, 5), dtype=bool)
corners = {"top left": right(np.tril(every)), "bottom right": right(np.tril(every, 2))}
seen = {
    "five keys in K": attention(query=query, key=key, value=value),
    "two in past_key": attention(query=query, key=key[:, :, 2:], value=value[:, :, 2:], past_key=key[:, :, :2],
                                 past_value=value[:, :, :2]),
}  # fmt: skip
found = []
for name, outputs in seen.items():
    for runner, output in zip(("onnxruntime", "reference"), outputs, strict=True):
        found += [corner for corner, expected in corners.items() if np.allclose(output, expected, atol=1e-5)]
        print(f"{name}, {runner}: {found[-1]}")
assert found == ["top left"] * 2 + ["bottom right"] * 2, "the behaviour has changed"
PYTHON
