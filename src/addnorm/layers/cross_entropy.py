"""Cross entropy over classes: what every task with class targets trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

IGNORED = -100
"""A target that counts for nothing: padding, or a token that was not masked."""


def cross_entropy(
    logits: Float[Tensor, "*targets classes"], targets: Int[Tensor, "*targets"], smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Nats a real target; padding does not dilute the mean, and a batch of padding alone has a loss of zero.

        loss = - sum_i sum_c q_i(c) ln p_i(c) / max(number of real targets, 1),   p_i = softmax(logits_i)
        q_i(c) = (1 - smoothing) [c = target_i] + smoothing / classes

    Label smoothing is that of Szegedy et al. (2015, arXiv:1512.00567): it bounds how sure the model may get, and
    with it the size of the logits. Leave it 0 where a loss is measured: its lowest value is then not zero.

    Args:
        logits: in any precision; summed in float32.
        targets: classes, or `IGNORED`.
        smoothing: share of the target's probability that is spread evenly over all classes.

    >>> import torch
    >>> float(cross_entropy(torch.zeros(2, 4), torch.tensor([1, IGNORED])).exp())
    4.0
    """
    total = F.cross_entropy(
        logits.flatten(0, -2).float(),
        targets.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )
    return total / count(targets).clamp(min=1)


def count(targets: Int[Tensor, "*targets"]) -> Int[Tensor, ""]:
    """How many targets are real: what the mean of `cross_entropy` is over."""
    return (targets != IGNORED).sum()
