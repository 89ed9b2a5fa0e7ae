#!/usr/bin/env bash
# torch 2.13.0 on a CPU, float32. The forward of scaled_dot_product_attention is right for scores of any size; its backward
# is not. It computes the weights again as exp(score - logsumexp), and a logsumexp of 1e6 is kept to no better than 0.06,
# one of 1e8 to 8: the gradient of the values, which is the weights alone, is off by a few percent for queries and keys of
# size 1e3, and by orders of magnitude from 1e4 on, while nothing is infinite or NaN. The same attention written as
# products and softmax has the right gradient at every size, because a softmax's backward keeps the weights themselves.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

FUTURE = ~torch.ones(40, 40, dtype=torch.bool).tril()


def written_out(query, key, value):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores.masked_fill(FUTURE, -torch.inf).softmax(-1) @ value


def fused(query, key, value):
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def run(attention, size, dtype):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 40, 8) for _ in range(3))
    given = [one.to(dtype).requires_grad_() for one in (size * query, size * key, value)]
    out = attention(*given)
    return out.detach().double(), torch.autograd.grad(out.sum(), given[2])[0].double()


def off(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


print("torch", torch.__version__)
for size, low, high in ((1.0, 0.0, 1e-5), (1e3, 1e-2, 1.0), (1e4, 10.0, float("inf"))):
    exact = run(written_out, size, torch.float64)
    kernel, formula = (run(one, size, torch.float32) for one in (fused, written_out))
    errors = [off(kernel[0], exact[0]), off(kernel[1], exact[1]), off(formula[1], exact[1])]
    print(f"size {size:g}: fused output {errors[0]:.0e}, fused gradient {errors[1]:.0e}, written out {errors[2]:.0e}")
    assert kernel[1].isfinite().all()
    assert errors[0] < 1e-4 and errors[2] < 1e-4
    assert low <= errors[1] <= high, errors
PYTHON
