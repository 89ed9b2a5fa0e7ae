"""Training images moved and mirrored, as a pure function of a generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import UInt8


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to each training image, at random.

    Args:
        shift: pixels by which it is moved at most, up or down and left or right; the border's pixels are repeated.
        mirror: the probability of exchanging left and right.
    """

    shift: int = 0
    mirror: float = 0.0

    def __call__(
        self, images: UInt8[Tensor, "batch height width channels"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch height width channels"]:
        """The images, each changed in its own way."""
        count, height, width, _ = images.shape
        by = torch.randint(-self.shift, self.shift + 1, (2, count, 1), generator=generator)
        mirrored = torch.rand(count, 1, generator=generator) < self.mirror
        rows = (torch.arange(height) + by[0]).clamp(0, height - 1)
        columns = torch.arange(width).expand(count, width)
        columns = torch.where(mirrored, columns.flip(1), columns)
        columns = (columns + by[1]).clamp(0, width - 1)
        return images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
