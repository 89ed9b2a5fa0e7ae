"""Predicted frames to look at: a strip and an animation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addnorm.errors import UserError
from addnorm.files import write_atomically

if TYPE_CHECKING:
    from jaxtyping import UInt8

GAP, GREY = 2, 96
"""Pixels between frames, and their shade."""
LEAST_SIDE = 64
"""Smaller frames are shown as a whole multiple of their size that is as large."""
FRAME_MS = 150


def write_strip(path: Path, rows: list[UInt8[np.ndarray, "frames height width channels"]]) -> Path:
    """Frames from left to right, one row of them below the other, as PNG; shorter rows end at the right.

    Raises:
        UserError: Pillow is not installed.
    """
    longest = max(map(len, rows))
    lines = [_line(frames, longest) for frames in rows]
    write_atomically(path, partial(_pillow().fromarray(_joined(lines, axis=0)).save, format="PNG"))
    return path


def write_animation(path: Path, rows: list[UInt8[np.ndarray, "frames height width channels"]]) -> Path:
    """The rows side by side, one frame after the other, as GIF that repeats; all as long as the first.

    Raises:
        UserError: Pillow is not installed.
    """
    pictures = [
        _pillow().fromarray(_joined([_colour(frame) for frame in frames], axis=1)) for frames in zip(*rows, strict=True)
    ]
    save: Any = partial(
        pictures[0].save, format="GIF", save_all=True, append_images=pictures[1:], duration=FRAME_MS, loop=0
    )
    write_atomically(path, save)
    return path


def _line(frames: np.ndarray, longest: int) -> np.ndarray:
    shown = [_colour(frame) for frame in frames]
    empty = [np.full_like(shown[0], GREY)] * (longest - len(shown))
    return _joined([*empty, *shown], axis=1)


def _colour(frame: np.ndarray) -> np.ndarray:
    """Three channels, large enough to be seen."""
    times = -(-LEAST_SIDE // min(frame.shape[:2]))
    large = frame.repeat(times, axis=0).repeat(times, axis=1)
    return large.repeat(3, axis=2) if large.shape[2] == 1 else large[:, :, :3]


def _joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """One array, with a gap between the pictures."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, GREY, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=axis)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        text = "strips and animations are written by Pillow, which is not installed; pip install 'addnorm[data]'."
        raise UserError(text) from error
    return Image
