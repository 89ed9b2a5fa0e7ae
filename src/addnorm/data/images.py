"""Images by their name on the command line: a shipped set, a folder of IDX files, or a folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from addnorm.data import digits, fashion_mnist, idx
from addnorm.data.image_splits import Images, ImageSplits, held_out
from addnorm.errors import UserError

NAMED = {
    "digits": digits.load,
    "mnist-5k": digits.load_mnist,
    "fashion-mnist": fashion_mnist.load,
    "fashion-mnist-10k": fashion_mnist.load_10k,
    "fashion-mnist-60k": fashion_mnist.load_60k,
}
SUFFIXES = (".png", ".jpg", ".jpeg")
_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def load(source: str, *, resize: int = 0) -> ImageSplits:
    """The images that `source` names, in three splits.

    Args:
        source: "digits", "mnist-5k", "fashion-mnist" (all of it where Debian's package is installed, else the shipped
            part), "fashion-mnist-10k", "fashion-mnist-60k"; a folder with MNIST's four IDX files; a folder with one
            folder of PNG or JPEG files for each class; or one with such folders in train, validation and test (what
            is missing of the last two is held out of train).
        resize: height and width that a user's pictures are brought to; 0 leaves them and requires one size.

    Raises:
        UserError: the source is missing or empty, has images of mixed sizes or damaged ones, or needs an extra.
    """
    if source in NAMED:
        return NAMED[source]()
    folder = Path(source).expanduser()
    if not source or not folder.is_dir():
        raise UserError(f"image data '{source}' is neither a folder nor one of {', '.join(NAMED)}; use one of them.")
    if idx.is_idx_folder(folder):
        return idx.load_folder(folder)
    return load_folder(folder, resize=resize)


def load_folder(folder: Path, *, resize: int = 0) -> ImageSplits:
    """A folder of classes, or of splits that hold classes; the classes are those of train, in alphabetical order."""
    found = {split: _split_folder(folder, split) for split in _SPLIT_NAMES}
    parts = {split: part for split, part in found.items() if part} if found["train"] else {"train": folder}
    root = parts["train"]
    classes = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(classes) < 2:
        raise UserError(
            f"{root} has {len(classes)} folders; use one folder of PNG or JPEG files for each class, two or more, "
            "or MNIST's four IDX files."
        )
    files = {split: _files(part, classes) for split, part in parts.items()}
    read = _read_all(files, resize)
    missing = [split for split in ("validation", "test") if split not in read]
    train, *held = held_out(read["train"], origin=str(folder), parts=len(missing)) if missing else [read["train"]]
    read.update(zip(missing, held, strict=True))
    return ImageSplits(
        origin=str(folder), classes=classes, train=train, validation=read["validation"], test=read["test"]
    )


def picture(path: Path, *, resize: int = 0) -> np.ndarray:
    """The pixels of a picture, uint8 [height, width, channels]: one channel if it is grey, else three.

    Raises:
        UserError: the extra `data` is missing, or the file is no picture, cut off or damaged.
    """
    pillow = _pillow(path)
    try:
        with pillow.open(path) as image:
            image.load()
            if image.mode[0] in "IF":
                raise ValueError(f"its mode is {image.mode}, save it with 8 bits a channel")
            grey = image.mode in ("1", "L", "LA")
            converted = image.convert("L" if grey else "RGB")
            if resize:
                converted = converted.resize((resize, resize), pillow.Resampling.BILINEAR)
            pixels = np.asarray(converted, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is no picture or a damaged one ({reason}); use a whole PNG or JPEG file.") from None
    return pixels[..., None] if grey else pixels


def stack(pictures: Sequence[np.ndarray], paths: Sequence[Path]) -> np.ndarray:
    """Pictures of one size as one array; grey ones among coloured ones get three equal channels.

    Raises:
        UserError: two pictures differ in size; the first two are named.
    """
    for pixels, path in zip(pictures, paths, strict=True):
        if pixels.shape[:2] != pictures[0].shape[:2]:
            raise UserError(
                f"{paths[0]} has {_size(pictures[0])} pixels and {path} {_size(pixels)}; "
                "all images must have one size: set resize=32, for example, to bring them to 32 x 32."
            )
    channels = max(pixels.shape[2] for pixels in pictures)
    return np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], channels)) for pixels in pictures])


def _read_all(files: dict[str, list[tuple[Path, int]]], resize: int) -> dict[str, Images]:
    paths = [path for part in files.values() for path, _ in part]
    pixels = stack([picture(path, resize=resize) for path in paths], paths)
    ends = np.cumsum([len(part) for part in files.values()])[:-1]
    labels = (np.array([label for _, label in part], dtype=np.int64) for part in files.values())
    return {
        split: Images(pixels=part, labels=numbers)
        for split, part, numbers in zip(files, np.split(pixels, ends), labels, strict=True)
    }


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    found: list[tuple[Path, int]] = []
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        if child.name not in classes:
            raise UserError(f"{child} is a class that train does not have; its classes are {', '.join(classes[:20])}.")
        paths = sorted(path for path in child.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise UserError(f"{child} has no picture; put PNG or JPEG files there, or remove the folder.")
        found += [(path, classes.index(child.name)) for path in paths]
    return found


def _split_folder(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in _SPLIT_NAMES[split] if (folder / name).is_dir()), None)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _pillow(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UserError(f"{path} needs the extra data; run: pip install 'addnorm[data]'") from None
    return Image
