"""How many words two texts share, and what that alone says of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_WORD = re.compile(r"\w+")


def overlap(first: str, second: str) -> float:
    """Jaccard's index of the sets of words, in lower case: `|A and B| / |A or B|`.

    >>> overlap("The light was good.", "the light is good")
    0.6
    """
    one, other = set(_WORD.findall(first.lower())), set(_WORD.findall(second.lower()))
    return len(one & other) / max(len(one | other), 1)


class OverlapThreshold:
    """One label below an overlap, one from it on: the threshold and the two labels that are right most often.

    Args:
        overlaps: of the training pairs.
        labels: of the same.
        outputs: how many labels there are.
    """

    def __init__(self, overlaps: Sequence[float], labels: Int[Tensor, "pairs"], outputs: int) -> None:
        values, order = torch.tensor(overlaps, dtype=torch.float64).sort()
        chosen = torch.nn.functional.one_hot(labels[order], outputs)
        below = torch.cat([torch.zeros_like(chosen[:1]), chosen.cumsum(0)])
        right = below.max(1).values + (below[-1] - below).max(1).values
        ends = torch.cat([torch.tensor([True]), values[1:] > values[:-1], torch.tensor([True])])
        cut = int(torch.where(ends, right, -1).argmax())
        edge = torch.cat([values[:1] - 1, values, values[-1:] + 1])
        self.threshold = float((edge[cut] + edge[cut + 1]) / 2)
        self.below, self.above = int(below[cut].argmax()), int((below[-1] - below[cut]).argmax())
        self.count = outputs

    def outputs(self, overlaps: Sequence[float]) -> Float[Tensor, "pairs labels"]:
        """A one at the label of each pair."""
        labels = [self.below if value < self.threshold else self.above for value in overlaps]
        return torch.nn.functional.one_hot(torch.tensor(labels), self.count).float()
