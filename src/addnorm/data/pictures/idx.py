"""IDX files, MNIST's format: a magic number, the sizes, the bytes; gzipped or not.

Two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each size as four bytes (big end first), then
the values, the last dimension running fastest.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from addnorm.data.pictures.image_splits import Images, ImageSplits, held_out
from addnorm.errors import UserError

IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
HELD_OUT = 1 / 12
"""Share of the training images held out for validation: 5,000 of MNIST's 60,000."""


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder has MNIST's file names."""
    return _existing(folder, IMAGES.format("train")) is not None


def load_folder(folder: Path, *, origin: str = "", classes: tuple[str, ...] = (), held: int = 0) -> ImageSplits:
    """A folder with the four files of MNIST: train and t10k, images and labels.

    Args:
        folder: holds train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], and the same with t10k.
        origin: what results call it; the folder if not given.
        classes: names of the labels; the numbers themselves if not given.
        held: training images held out for validation; a twelfth if not given.

    Raises:
        UserError: a file is missing, damaged, or has another number of images than of labels.
    """
    origin = origin or str(folder)
    whole, test = _part(folder, "train"), _part(folder, "t10k")
    if whole.pixels.shape[1:] != test.pixels.shape[1:]:
        raise UserError(
            f"{folder} has training images of {whole.pixels.shape[1:3]} pixels and test images of "
            f"{test.pixels.shape[1:3]}; both must have one size."
        )
    train, validation = held_out(whole, origin=origin, sizes=(held or max(1, round(HELD_OUT * len(whole))),))
    highest = int(max(whole.labels.max(), test.labels.max()))
    classes = classes or tuple(str(label) for label in range(highest + 1))
    if highest >= len(classes):
        raise UserError(
            f"{folder} has a label {highest}, {origin} has {len(classes)} classes; use 0 to {len(classes) - 1}."
        )
    return ImageSplits(origin=origin, classes=classes, train=train, validation=validation, test=test)


def read(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, which may be gzipped.

    Raises:
        UserError: the file is missing, damaged, cut off, or holds something else.
    """
    content = _content(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not 1 <= content[3] <= 4:
        raise UserError(
            f"{path} is no IDX file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}, "
            "not with 00 00 08 and the number of dimensions; use a file in MNIST's format."
        )
    dimensions = content[3]
    header = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:header].ljust(4 * dimensions, b"\0"), ">u4").tolist())
    expected = int(np.prod(shape, dtype=np.float64))
    if len(content) - header != expected:
        raise UserError(
            f"{path} has {max(0, len(content) - header)} values, its header says {' x '.join(map(str, shape))} = "
            f"{expected}: the file is cut off or damaged; copy it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _part(folder: Path, part: str) -> Images:
    paths = [_existing(folder, name.format(part)) for name in (IMAGES, LABELS)]
    for path, name in zip(paths, (IMAGES, LABELS), strict=True):
        if path is None:
            raise UserError(f"{folder} has no {name.format(part)} (or .gz with it); put MNIST's four files there.")
    pixels, labels = (read(path) for path in paths if path is not None)
    if pixels.ndim != 3 or labels.ndim != 1:
        raise UserError(
            f"{paths[0]} has {pixels.ndim} dimensions and {paths[1]} {labels.ndim}; "
            "3 and 1 are needed: images and labels."
        )
    if len(pixels) != len(labels) or not len(labels):
        raise UserError(
            f"{paths[0]} has {len(pixels)} images, {paths[1]} {len(labels)} labels; there must be one for each."
        )
    return Images(pixels=pixels[..., None], labels=labels.astype(np.int64))


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or cut off ({error}); copy it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); use an IDX file.") from None
