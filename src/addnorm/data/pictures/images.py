"""Images by their name on the command line: a shipped set, a folder of IDX files, or a folder for each class."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from addnorm.data.pictures import idx
from addnorm.data.pictures.image_splits import Images, ImageSplits, held_out
from addnorm.data.pictures.picture_file import SUFFIXES, LeftOutWarning, picture, stack
from addnorm.data.sets import digits, fashion_mnist
from addnorm.data.sources import split_names
from addnorm.data.sources.hidden_files import shown_files, shown_here
from addnorm.errors import UserError

NAMED = {
    "digits": digits.load,
    "mnist-5k": digits.load_mnist,
    "fashion-mnist": fashion_mnist.load,
    "fashion-mnist-10k": fashion_mnist.load_10k,
    "fashion-mnist-60k": fashion_mnist.load_60k,
}


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
    found = {split: _split_folder(folder, split) for split in split_names.NAMES}
    parts = {split: part for split, part in found.items() if part} if found["train"] else {"train": folder}
    root = parts["train"]
    classes = tuple(path.name for path in shown_here(root) if path.is_dir())
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


def _read_all(files: dict[str, list[tuple[Path, int]]], resize: int) -> dict[str, Images]:
    paths = [path for part in files.values() for path, _ in part]
    pixels = stack([picture(path, size=(resize, resize) if resize else None) for path in paths], paths)
    ends = np.cumsum([len(part) for part in files.values()])[:-1]
    labels = (np.array([label for _, label in part], dtype=np.int64) for part in files.values())
    return {
        split: Images(pixels=part, labels=numbers)
        for split, part, numbers in zip(files, np.split(pixels, ends), labels, strict=True)
    }


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    found: list[tuple[Path, int]] = []
    left_out: list[Path] = []
    for child in shown_here(folder):
        if not child.is_dir():
            continue
        if child.name not in classes:
            raise UserError(f"{child} is a class that train does not have; its classes are {', '.join(classes[:20])}.")
        shown = shown_files(child)
        paths = [path for path in shown if path.suffix.lower() in SUFFIXES]
        if not paths:
            raise UserError(f"{child} has no picture; put PNG or JPEG files there, or remove the folder.")
        left_out += [path for path in shown if path.suffix.lower() not in SUFFIXES]
        found += [(path, classes.index(child.name)) for path in paths]
    if left_out:
        names = ", ".join(str(path) for path in left_out[:3])
        text = f"{len(left_out)} files in {folder} do not end as pictures do and are left out: {names}"
        warnings.warn(text + (", ..." if len(left_out) > 3 else ""), LeftOutWarning, stacklevel=2)
    return found


def _split_folder(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in split_names.NAMES[split] if (folder / name).is_dir()), None)
