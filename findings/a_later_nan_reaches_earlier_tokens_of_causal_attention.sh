#!/usr/bin/env bash
# torch 2.13.0 on a CPU. scaled_dot_product_attention(is_causal=True) lets a value of a later token reach earlier ones if
# it is not a number: token 20 has a NaN in its value, and the outputs of tokens 0 to 19, which may not see it, are NaN.
# The weight of a token that is masked is 0, and 0 times NaN is NaN: the kernel multiplies whole blocks. A NaN in the key
# of the same token stays where it belongs, from token 20 on. A test of causality that puts a NaN into the future and
# looks for it in the past therefore fails for values and passes for keys.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

torch.manual_seed(0)
query, key, value = (torch.randn(1, 1, 40, 8) for _ in range(3))


def first_nan(key, value):
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return int(out.isnan().any(-1)[0, 0].nonzero()[0])


print("torch", torch.__version__)
assert F.scaled_dot_product_attention(query, key, value, is_causal=True).isfinite().all()
bad_value, bad_key = value.clone(), key.clone()
bad_value[0, 0, 20, 0] = bad_key[0, 0, 20, 0] = torch.nan
found = first_nan(key, bad_value), first_nan(bad_key, value)
print("NaN at token 20 of the values: first output that is NaN", found[0])
print("NaN at token 20 of the keys: first output that is NaN", found[1])
assert found == (0, 20), found
PYTHON
