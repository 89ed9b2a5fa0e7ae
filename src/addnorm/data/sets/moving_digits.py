"""Moving digits: handwritten digits that fly over a black square and bounce off its edges.

    p(t) = bounce(p(0) + t * v),    frame(t) = max over the digits of the digit drawn at p(t)

p(0) is uniform over the places where the digit lies inside the frame; v has a uniform direction and a speed that is
uniform between MIN_SPEED and MAX_SPEED of a 64-pixel frame. bounce folds a straight line back into the allowed range.
Srivastava, Mansimov and Salakhutdinov, 2015, "Unsupervised Learning of Video Representations using LSTMs",
arXiv:1502.04681, section 3.2. The digits are the 5,000 of `digits.load_mnist`, the splits have no digit in common.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from addnorm.data.sets import digits
from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

MIN_SPEED, MAX_SPEED = 2.0, 4.0
"""Pixels a frame where the frame has 64; smaller frames have smaller digits and speeds, by the same factor.

Repeating the last frame seen then has a mean squared error (pixels 0 to 1, two digits) of 0.065 at 64 x 64 from ten
frames to the next ten, and of 0.046 at 32 x 32 from five frames to the next five.
"""
DIGIT_SHARE = 28 / 64
CLIPS = {"train": 2**31, "validation": 1000, "test": 1000}
_STREAM = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class MovingDigits:
    """Clips of moving digits; clip i is a function of (seed, split, i), so that none is stored.

    Args:
        split: train, validation or test; each draws from digits of its own.
        size: height and width of a frame; 64 in the paper, where a digit has 28.
        digits: digits in a clip; 2 in the paper.
        frames: frames of a clip; 20 in the paper, ten to see and ten to predict.
        seed: of training clips; validation and test are the same for every seed.
    """

    split: str = "train"
    size: int = 64
    digits: int = 2
    frames: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in CLIPS:
            raise UserError(f"split '{self.split}' is unknown; use {', '.join(CLIPS)}.")
        if self.size < 16 or self.digits < 1 or self.frames < 2:
            raise UserError(
                f"size={self.size}, digits={self.digits}, frames={self.frames} make no clip; "
                "use size 16 or more, one digit or more, two frames or more."
            )

    def __len__(self) -> int:
        return CLIPS[self.split]

    def clip(self, index: int) -> UInt8[np.ndarray, "frames size size 1"]:
        """The clip of that number."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        shapes = _shapes(self.split, round(self.size * DIGIT_SHARE))
        seed = self.seed if self.split == "train" else 0
        draws = _uniform(seed, _STREAM[self.split] * 2**32 + index, 5 * self.digits).reshape(self.digits, 5)
        clip = np.zeros((self.frames, self.size, self.size, 1), np.uint8)
        for which, x, y, direction, pace in draws:
            shape = shapes[int(which * len(shapes))]
            for place, frame in zip(self._path(x, y, direction, pace, shape.shape[0]), clip, strict=True):
                row, column = place
                window = frame[row : row + len(shape), column : column + len(shape), 0]
                np.maximum(window, shape, out=window)
        return clip

    def _path(self, x: float, y: float, direction: float, pace: float, side: int) -> np.ndarray:
        """Upper left corners of a digit, one a frame."""
        room = self.size - side
        speed = (MIN_SPEED + (MAX_SPEED - MIN_SPEED) * pace) * self.size / 64
        angle = 2 * np.pi * direction
        velocity = speed * np.array([np.sin(angle), np.cos(angle)])
        straight = np.array([y, x]) * room + np.arange(self.frames)[:, None] * velocity
        return np.rint(bounce(straight, room)).astype(int)


def bounce(straight: Float64[np.ndarray, "..."], room: float) -> Float64[np.ndarray, "..."]:
    """A place on a line folded back into 0 to room, as a mirror at both ends would.

    >>> bounce(np.array([3.0, 7.0, 12.0, -1.0]), 5.0).tolist()
    [3.0, 3.0, 2.0, 1.0]
    """
    return room - np.abs(straight % (2 * room) - room)


@functools.lru_cache(maxsize=8)
def _shapes(split: str, side: int) -> UInt8[np.ndarray, "digits side side"]:
    """The digits of a split, brought to a size by averaging over areas."""
    pixels = getattr(digits.load_mnist(), split).pixels[..., 0]
    if side == pixels.shape[1]:
        return pixels
    weights = _area_weights(pixels.shape[1], side)
    return np.rint(weights @ pixels.astype(np.float64) @ weights.T).astype(np.uint8)


def _area_weights(old: int, new: int) -> Float64[np.ndarray, "new old"]:
    """How much of each old pixel a new pixel covers; the rows sum to one."""
    edges = np.arange(new + 1) * old / new
    upper = np.minimum(edges[1:, None], np.arange(1, old + 1))
    lower = np.maximum(edges[:-1, None], np.arange(old))
    return np.clip(upper - lower, 0, None) * new / old


def _uniform(seed: int, stream: int, count: int) -> Float64[np.ndarray, "count"]:
    """Numbers in [0, 1) from the raw draws of Philox, which no release of numpy changes."""
    draws = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(count)
    return (draws >> np.uint64(11)).astype(np.float64) / 2**53
