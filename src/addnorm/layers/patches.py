"""Images as patches: cut, put together again, and embedded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_count
from addnorm.config import ModelConfig
from addnorm.errors import UserError
from addnorm.layers.position import added_position

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """How images of one size are cut into square patches.

    Args:
        height: of an image, in pixels.
        width: of an image, in pixels.
        channels: of a pixel.
        patch: side of a patch, in pixels; must divide height and width.

    Raises:
        UserError: a size is below 1, or the patch does not divide the image.

    >>> PatchGrid(height=28, width=28, channels=1, patch=4).tokens
    49
    """

    height: int
    width: int
    channels: int = 1
    patch: int = 4

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels", "patch"):
            check_count(name, getattr(self, name))
        if self.height % self.patch or self.width % self.patch:
            sides = range(1, min(self.height, self.width) + 1)
            fitting = [str(n) for n in sides if self.height % n == 0 and self.width % n == 0]
            raise UserError(
                f"patch={self.patch} does not divide images of {self.height} x {self.width} pixels; "
                f"use {', '.join(fitting)}, or another size of images (resize=...)."
            )

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.height // self.patch) * (self.width // self.patch)

    @property
    def values(self) -> int:
        """Numbers in a patch."""
        return self.patch**2 * self.channels

    @property
    def pixels(self) -> int:
        """Numbers in an image: its dimensions."""
        return self.height * self.width * self.channels

    def cut(self, images: Shaped[Tensor, "batch height width channels"]) -> Shaped[Tensor, "batch tokens values"]:
        """Patches from left to right and from top to bottom, the numbers of each in the same order."""
        side, rows, columns = self.patch, self.height // self.patch, self.width // self.patch
        parts = images.reshape(-1, rows, side, columns, side, self.channels)
        return parts.transpose(2, 3).reshape(-1, self.tokens, self.values)

    def joined(self, patches: Shaped[Tensor, "batch tokens values"]) -> Shaped[Tensor, "batch height width channels"]:
        """The images that the patches were cut from."""
        side, rows, columns = self.patch, self.height // self.patch, self.width // self.patch
        parts = patches.reshape(-1, rows, columns, side, side, self.channels)
        return parts.transpose(2, 3).reshape(-1, self.height, self.width, self.channels)

    def check(self, images: Tensor) -> None:
        """Refuse images of another size, and what are no rows of images.

        Raises:
            UserError: with both shapes.
        """
        wanted = (self.height, self.width, self.channels)
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            raise UserError(
                f"images have shape {tuple(images.shape)}; the model takes (batch, height, width, channels) "
                f"= (batch, {', '.join(map(str, wanted))})."
            )


class PatchEmbedding(nn.Module):
    """Patches to vectors, by one linear map, plus the vectors of their positions: `W patch + b + P[position]`.

    Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1. Positions count patches from left to right and from top to
    bottom; rotary ones turn queries and keys by that count. Dropout follows, as in the embedding of tokens.

    Args:
        grid: how images are cut.
        config: the shape; `position` says what is added.
    """

    def __init__(self, grid: PatchGrid, config: ModelConfig) -> None:
        super().__init__()
        self.grid, self.dropout = grid, config.dropout
        self.linear = nn.Linear(grid.values, config.d_model)
        self.positions = added_position(config.position, grid.tokens, config.d_model)

    def forward(
        self,
        images: Float[Tensor, "batch height width channels"],
        before: Float[Tensor, "batch more d_model"] | None = None,
    ) -> Float[Tensor, "batch tokens_and_more d_model"]:
        """One vector a patch, behind those of `before`: class tokens and other conditions.

        Raises:
            UserError: the images have another size.
        """
        self.grid.check(images)
        embedded = self.linear(self.grid.cut(images))
        if self.positions is not None:
            places = torch.arange(self.grid.tokens, device=images.device)
            embedded = embedded + self.positions(places, embedded.dtype)
        if before is not None:
            embedded = torch.cat((before, embedded), dim=1)
        return F.dropout(embedded, self.dropout, self.training) if self.dropout else embedded
