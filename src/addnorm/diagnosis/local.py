"""Which tokens one sublayer lets see which: the gradient from its new state to its old one, nothing else between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from addnorm.diagnosis.tape import Tape
from addnorm.layers.initialise import generator_for

ZERO = 1e-6  # of the largest entry: float32 leaves 1e-7 where sums cancel


@dataclass(frozen=True, kw_only=True)
class Local:
    """Relative sizes of gradients, the largest entry of each over the largest of all.

    Args:
        forward: of a later token's new state at earlier tokens' old states: above 0 where tokens are mixed.
        backward: of earlier tokens' new states at a later token's old state: above 0 where the future is seen.
    """

    forward: float
    backward: float

    @property
    def mixes(self) -> bool:
        """Whether tokens see each other at all."""
        return max(self.forward, self.backward) > ZERO

    @property
    def sees_the_future(self) -> bool:
        """Whether a token sees a later one."""
        return self.backward > ZERO


def local_dependence(tape: Tape, old: int, new: int | None) -> Local | None:
    """Of one sublayer; None where the states have no tokens in order, or no gradient passes.

    Args:
        tape: with the graph of its forward.
        old, new: values, `(batch, tokens, d_model)`.
    """
    if new is None:
        return None
    made, given = tape.values[new], tape.values[old]
    if made.tensor.ndim != 3 or made.tensor.shape != given.tensor.shape or made.tensor.shape[1] < 2:
        return None
    if given.edge is None or not made.tensor.requires_grad:
        return None
    half = made.tensor.shape[1] // 2
    early = _gradient(made.tensor, given.edge, slice(half))
    late = _gradient(made.tensor, given.edge, slice(half, None))
    if early is None or late is None or not bool(torch.isfinite(early).all() and torch.isfinite(late).all()):
        return None
    size = max(float(early.abs().max()), float(late.abs().max()), 1e-30)
    return Local(forward=float(late[:, :half].abs().max()) / size, backward=float(early[:, half:].abs().max()) / size)


def _gradient(made: torch.Tensor, edge: Any, tokens: slice) -> torch.Tensor | None:
    part = made[:, tokens]
    noise = torch.randn(part.shape, generator=generator_for(0, "share")).to(part)
    return torch.autograd.grad((part * noise).sum(), edge, retain_graph=True, allow_unused=True)[0]
