#!/usr/bin/env bash
# PyTorch 2.13.0: `once_differentiable` does not keep a gradient penalty from silently losing a term.
#
# Expected: a Function whose backward is decorated with `once_differentiable` raises as soon as a second derivative
# passes through it, so that a gradient penalty is either right or an error.
# Observed: it raises in one case of six. If the gradient that comes in is a constant (the Function comes last),
# nothing ever raises. If it is not (a square comes after it), `.backward()` of the penalty raises, but
# `torch.autograd.grad(penalty, weight)` and `.backward(inputs=[weight])` return a number from which the Function's
# part is missing. Here the Function is f(x, w) = (x w)^2 with x = 1 and w = 2, and the loss has x w added to it.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.autograd.function import once_differentiable


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return (x * w) ** 2

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad * 2 * x * w * w, grad * 2 * x * x * w


def penalty(square, last):
    x, w = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.0, 2.0))
    (slope,) = torch.autograd.grad(last(square(x, w)) + x * w, x, create_graph=True)
    return slope**2, w


def by_backward(square, last, only_weight):
    value, w = penalty(square, last)
    try:
        value.backward(inputs=[w] if only_weight else None)
    except RuntimeError as error:
        return "raises: " + str(error)[:70]
    return w.grad.item()


def by_grad(square, last):
    value, w = penalty(square, last)
    return torch.autograd.grad(value, w)[0].item()


def plain(x, w):
    return (x * w) ** 2


lasts = {"the Function comes last": lambda y: y, "a square comes after it": lambda y: y**2}
for name, last in lasts.items():
    right = by_grad(plain, last)
    seen = [by_backward(Square.apply, last, False), by_backward(Square.apply, last, True), by_grad(Square.apply, last)]
    print(f"{name}: right is {right}; backward(): {seen[0]}; backward(inputs=): {seen[1]}; grad(): {seen[2]}")
    raised = [isinstance(value, str) for value in seen]
    assert raised == [name == "a square comes after it", False, False], "the behaviour has changed"
    assert right not in seen, "the behaviour has changed"
PYTHON
