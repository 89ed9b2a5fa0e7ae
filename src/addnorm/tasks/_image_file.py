"""A picture from a user's file, in the size that a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.data.images import picture
from addnorm.errors import UserError
from addnorm.tasks._images import ImageKind

if TYPE_CHECKING:
    from jaxtyping import UInt8

LUMA = np.array([299, 587, 114]) / 1000
"""Shares of red, green and blue in the grey of a colour (ITU-R BT.601)."""


def read_image(path: Path, kind: ImageKind) -> UInt8[Tensor, "height width channels"]:
    """The picture as bytes: in grey or in colour as the model's images are, made as large as they are.

    Raises:
        UserError: Pillow is not installed, or the file is missing or no picture.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; name a picture, a PNG or JPEG file.")
    pixels = picture(path)
    if pixels.shape[2] == 3 and kind.channels == 1:
        pixels = (pixels @ LUMA).round().astype(np.uint8)[..., None]
    pixels = torch.from_numpy(np.broadcast_to(pixels, (*pixels.shape[:2], kind.channels)).copy())
    if pixels.shape[:2] == (kind.height, kind.width):
        return pixels
    planes = pixels.permute(2, 0, 1)[None].float()
    smaller = kind.height <= pixels.shape[0] and kind.width <= pixels.shape[1]
    sized = F.interpolate(planes, (kind.height, kind.width), mode="area" if smaller else "bilinear")
    return sized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
