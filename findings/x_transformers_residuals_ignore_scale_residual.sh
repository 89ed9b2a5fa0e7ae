#!/usr/bin/env bash
# x-transformers 2.31.10: `scale_residual` does nothing once the residual is one with several streams or a split.
#
# Expected: a flag that scales the residual by learned numbers either works with every kind of residual, or is
# refused with those that have no place for it, as other pairs of flags are.
# Observed: with `num_residual_streams=2` (hyper-connections) and with `mv_split_residual=True` the logits are the
# same bits with and without it, no parameter is added, and nothing is said. `scale_residual_constant=0.5` is
# dropped by the same two and by `gate_residual` and `orthog_residual` besides. Alone each changes the logits.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet x-transformers==2.31.10
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from x_transformers import Decoder, TransformerWrapper

KINDS = {
    "plain": {},
    "gate_residual": {"gate_residual": True},
    "orthog_residual": {"orthog_residual": True},
    "mv_split_residual": {"mv_split_residual": True},
    "num_residual_streams": {"num_residual_streams": 2},
}
FLAGS = {"scale_residual": True, "scale_residual_constant": 0.5}


def logits(**flags):
    """The same numbers in parameters of the same name, whatever else the model has."""
    layers = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, **flags)
    model = TransformerWrapper(num_tokens=16, max_seq_len=16, attn_layers=layers).eval()
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim < 2))
    with torch.no_grad():
        return model(torch.arange(8)[None]), len(list(model.parameters()))


seen = {}
for kind, residual in KINDS.items():
    before, parameters = logits(**residual)
    for flag, value in FLAGS.items():
        after, more = logits(**residual, **{flag: value})
        seen[kind, flag] = torch.equal(before, after)
        print(f"{kind} with {flag}: same logits {seen[kind, flag]}, parameters added {more - parameters}")
ignored = {case for case, same in seen.items() if same}
assert ignored == {
    ("mv_split_residual", "scale_residual"),
    ("num_residual_streams", "scale_residual"),
    *((kind, "scale_residual_constant") for kind in KINDS if kind != "plain"),
}, "the behaviour has changed"
PYTHON
