"""PNG files, written without a library."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import UInt8

GREY, COLOUR = 0, 2
GAP, PAPER = 1, 128
"""Pixels between the images of a sheet, and their grey."""


def encode(pixels: UInt8[np.ndarray, "height width channels"]) -> bytes:
    """The bytes of a PNG file: 8 bits a channel, one channel (grey) or three (red, green, blue).

    PNG specification, third edition (W3C 2025): signature, then the chunks IHDR, IDAT and IEND, each with its CRC; a
    line of pixels begins with a zero byte, for no filter.
    """
    height, width, channels = pixels.shape
    assert pixels.dtype == np.uint8 and channels in (1, 3), (pixels.dtype, pixels.shape)
    lines = np.zeros((height, 1 + width * channels), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if channels == 1 else COLOUR, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def sheet(
    images: UInt8[np.ndarray, "images height width channels"], columns: int, scale: int = 1
) -> UInt8[np.ndarray, "sheet_height sheet_width channels"]:
    """Images side by side in rows of `columns`, each pixel `scale` pixels wide and high, with lines between them."""
    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = large.shape
    rows = -(-count // columns)
    paper = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), PAPER, dtype=np.uint8)
    for place, image in enumerate(large):
        top, left = (place // columns) * (height + GAP) + GAP, (place % columns) * (width + GAP) + GAP
        paper[top : top + height, left : left + width] = image
    return paper


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
