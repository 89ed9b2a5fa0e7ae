"""Labelled images of one size, in three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from addnorm.data.texts.text import HELD_OUT
from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Images and the number of each one's class."""

    pixels: UInt8[np.ndarray, "images height width channels"]
    labels: Int64[np.ndarray, "images"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSplits:
    """Images to train on, to choose by, and to report on; `classes[label]` is the name of a class."""

    origin: str
    classes: tuple[str, ...]
    train: Images
    validation: Images
    test: Images

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.train.pixels.shape[1:]
        return height, width, channels

    def fingerprint(self) -> str:
        """SHA-256 over the classes and every split's pixels and labels: equal exactly when the data are equal."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in (self.train, self.validation, self.test):
            digest.update(f"split {split.pixels.shape}\n".encode())
            digest.update(split.pixels.tobytes())
            digest.update(split.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def held_out(
    images: Images, *, origin: str, parts: int = 2, share: float = HELD_OUT, sizes: tuple[int, ...] = ()
) -> list[Images]:
    """The training images, then `parts` held-out splits of about `share` each, or of the given sizes.

    Which images are held out is decided by the hash of their place in the set, whatever they show.

    Raises:
        UserError: there are too few images to fill every split.
    """
    sizes = sizes or (max(1, round(share * len(images))),) * parts
    if len(images) <= sum(sizes):
        raise UserError(
            f"{origin} has {len(images)} images, too few to hold {sum(sizes)} out; "
            "add images, or folders train, validation and test."
        )
    order = np.array(sorted(range(len(images)), key=_hash))
    starts = np.cumsum((0, *sizes))
    chosen = [np.sort(order[start:end]) for start, end in zip(starts[:-1], starts[1:], strict=True)]
    return [subset(images, np.sort(order[starts[-1] :])), *(subset(images, part) for part in chosen)]


def subset(images: Images, chosen: Sequence[int] | np.ndarray) -> Images:
    """Some of the images, in the order given."""
    return Images(pixels=images.pixels[chosen], labels=images.labels[chosen])


def _hash(place: int) -> bytes:
    return hashlib.sha256(f"image {place}".encode()).digest()
