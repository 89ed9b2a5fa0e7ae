"""Fashion-MNIST: grey pictures of clothes in ten classes, 28 x 28 pixels.

Xiao, Rasul and Vollgraf, 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747. The 10,000 images of its test part are shipped; Debian's package
dataset-fashion-mnist installs all 70,000. Origin and licence: NOTICE at the root of the repository. Made by
scripts/build_images.py.
"""

from __future__ import annotations

import functools
import lzma
from pathlib import Path

import numpy as np

from addnorm.data.pictures import idx
from addnorm.data.pictures.image_splits import Images, ImageSplits, held_out
from addnorm.data.sets import shipped
from addnorm.errors import UserError

ARCHIVE = "fashion_mnist_10k.xz"
ARCHIVE_SHA256 = "401c0a19ac551ed15446b335383028338d820a0c94fde10694d3ede8e5c443e4"
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


def load() -> ImageSplits:
    """All 70,000 images where Debian's package is installed, else the 10,000 that are shipped; `origin` says which."""
    return load_60k() if is_installed() else load_10k()


def is_installed() -> bool:
    """Whether Debian's package dataset-fashion-mnist is."""
    return (DEBIAN_FOLDER / "train-images-idx3-ubyte.gz").is_file()


@functools.cache
def load_10k() -> ImageSplits:
    """The shipped images: 8,000 to train on, 1,000 for validation, 1,000 for test, by the hash of their place.

    Raises:
        UserError: the installed file is not the shipped one.
    """
    images = unpack(lzma.decompress(shipped.read(ARCHIVE, ARCHIVE_SHA256)), size=28)
    train, validation, test = held_out(images, origin="fashion-mnist-10k", sizes=(1000, 1000))
    return ImageSplits(origin="fashion-mnist-10k", classes=CLASSES, train=train, validation=validation, test=test)


def load_60k() -> ImageSplits:
    """All images: 55,000 to train on, 5,000 of the training part for validation, the test part of 10,000.

    Raises:
        UserError: Debian's package is not installed.
    """
    if not is_installed():
        raise UserError(
            "fashion-mnist-60k is not installed; run: apt-get install dataset-fashion-mnist, "
            "or use data=FOLDER with its four IDX files, or fashion-mnist-10k, which is shipped."
        )
    return idx.load_folder(DEBIAN_FOLDER, origin="fashion-mnist-60k", classes=CLASSES, held=5000)


def unpack(content: bytes, *, size: int) -> Images:
    """Labels, one byte each, then square images of one byte a pixel."""
    count = len(content) // (1 + size * size)
    everything = np.frombuffer(content, np.uint8)
    assert len(everything) == count * (1 + size * size), len(everything)
    pixels = everything[count:].reshape(count, size, size, 1)
    return Images(pixels=pixels, labels=everything[:count].astype(np.int64))
