#!/usr/bin/env bash
# onnxruntime 1.32.0, ONNX opset 23: `Attention` broadcasts a mask over batch and heads, and refuses to over the
# queries.
#
# Expected: the operator's mask is "broadcastable to (batch, heads, queries, keys)", so that a padding mask goes in
# as (batch, 1, 1, keys), the form that PyTorch's `scaled_dot_product_attention` takes.
# Observed: (batch, 1, queries, keys), (1, heads, queries, keys) and (queries, keys) work; (batch, 1, 1, keys), (1,
# keys) and (keys,) fail when the node runs, not when the model is loaded. The onnx package's reference takes them
# all and gives what the mask written out gives.
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

onnxruntime.set_default_logger_severity(4)
BATCH, HEADS, TOKENS = 2, 2, 3
random = np.random.default_rng(0)
inputs = {name: random.standard_normal((BATCH, HEADS, TOKENS, 8)).astype(np.float32) for name in ("q", "k", "v")}
keys = np.array([[True, True, False], [True, False, True]])
shapes = {
    "(batch, 1, queries, keys)": np.repeat(keys[:, None, None], TOKENS, axis=2),
    "(1, heads, queries, keys)": np.repeat(keys[None, :, None], TOKENS, axis=2),
    "(queries, keys)": np.repeat(keys[:1], TOKENS, axis=0),
    "(batch, 1, 1, keys)": keys[:, None, None],
    "(1, keys)": keys[:1],
    "(keys,)": keys[0],
}


def attention(mask):
    given = inputs | {"mask": mask}
    kinds = {name: TensorProto.BOOL if name == "mask" else TensorProto.FLOAT for name in given}
    typed = [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in given.items()]
    made = [helper.make_tensor_value_info("out", TensorProto.FLOAT, inputs["q"].shape)]
    graph = helper.make_graph([helper.make_node("Attention", list(given), ["out"])], "graph", typed, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    reference = ReferenceEvaluator(model).run(None, given)[0]
    try:
        return session.run(None, given)[0], reference
    except Exception as error:
        return str(error).splitlines()[0], reference


seen = []
for name, mask in shapes.items():
    written_out = np.broadcast_to(mask, (BATCH, HEADS, TOKENS, TOKENS)).copy()
    output, reference = attention(mask)
    right = attention(written_out)[0]
    assert np.allclose(reference, right, atol=1e-5), "the behaviour has changed"
    seen.append(not isinstance(output, str) and np.allclose(output, right, atol=1e-5))
    print(f"{name}: {'as the mask written out' if seen[-1] else 'refused: ' + output[-90:]}")
assert seen == [True, True, True, False, False, False], "the behaviour has changed"
PYTHON
