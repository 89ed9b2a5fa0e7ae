"""What no number may do to a residual scheme: tokens of zeros or of equal numbers.

Each law takes a scheme and none names one; `test_conformance.py` lists the schemes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from addnorm import Transformer
from addnorm.residual import Scheme
from small_models import BATCH, TOKENS, moved, noise_like, projected, small, surroundings, tokens


def a_token_without_a_direction_is_finite_and_so_are_its_gradients(scheme: Scheme) -> None:
    """A token of zeros, a token of equal numbers, and nothing but zeros: before training and moved."""
    filled = noise_like(torch.empty(BATCH, TOKENS, 16))
    for fill in (0.0, 1.0, 1e5):
        one, whole = filled.clone(), torch.full_like(filled, fill)
        one[:, 2] = fill
        for make in (small, moved):
            for embedding in (one, whole):
                _is_finite(scheme, make, embedding)


def _is_finite(scheme: Scheme, make: Callable[[Scheme], Transformer], embedding: Tensor) -> None:
    model = make(scheme)
    embedding = embedding.clone().requires_grad_()
    hidden = model.stack(embedding, surroundings(tokens()))
    assert hidden.isfinite().all()
    projected(hidden).backward()
    named = {"embedding": embedding} | dict(model.stack.named_parameters())
    wrong = [name for name, one in named.items() if one.grad is not None and not one.grad.isfinite().all()]
    assert not wrong, f"not finite: {', '.join(wrong)}"
