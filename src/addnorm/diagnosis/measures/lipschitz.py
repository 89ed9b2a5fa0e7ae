"""How strongly each sublayer can amplify a small change of what it reads.

    L = max_v |J v| / |v|,  J = d F / d x at what the sublayer was given;    v <- J^T J v / |J^T J v|

The spectral norm of the Jacobian over all tokens at once, by power iteration (Golub and Van Loan 2013, section 8.2, on
J^T J): J^T u is a backward, J v the backward of a backward. A lower bound of the Lipschitz constant: another point may
have a larger one. Attention by dot products has none at all over all inputs (Kim et al. 2020, arXiv:2006.04710).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from addnorm.diagnosis.replay import calls, twice_differentiable
from addnorm.diagnosis.subject import Series, Subject

STEPS, SETTLED = 30, 1e-3


def lipschitz(subject: Subject) -> list[Series]:
    """Of each sublayer; None where it can't be called again or differentiated twice."""
    if subject.forward is None:
        return []
    found = calls(subject.model, list(subject.sublayer_names), subject.forward)
    values: list[float | None] = []
    for name in subject.sublayer_names:
        try:
            values.append(largest_singular_value(found[name], found[name].x))
        except (KeyError, RuntimeError, TypeError, ValueError, StopIteration):
            values.append(None)
    label = "largest amplification of a small change"
    return [
        Series(name="Lipschitz estimate", along="sublayer", values=values, places=subject.sublayer_names, label=label)
    ]


def largest_singular_value(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Of the function's Jacobian at x."""
    with twice_differentiable():
        x = x.detach().clone().requires_grad_()
        y = function(x)
        u = torch.zeros_like(y, requires_grad=True)
        (back,) = torch.autograd.grad(y, x, u, create_graph=True)
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        before = found = 0.0
        for _ in range(STEPS):
            (forth,) = torch.autograd.grad(back, u, v / v.norm(), retain_graph=True)
            before, found = found, float(forth.norm())
            if found == 0 or abs(found - before) <= SETTLED * found:
                break
            (v,) = torch.autograd.grad(y, x, forth, retain_graph=True)
    return found
