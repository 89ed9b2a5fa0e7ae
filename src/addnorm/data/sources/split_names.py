"""Which files of a user's source are for training, validation and test, by their names or as the source says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from addnorm.errors import UserError

SPLITS = ("train", "validation", "test")
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "trial"),
    "test": ("test", "testing"),
}
"""What each split is called in names of folders and files, and in data sets."""
_NAMED = re.compile(rf"(?:^|,)({'|'.join(SPLITS)})=")
_WORD = {split: re.compile(rf"(?:^|[^a-z])(?:{'|'.join(words)})(?:[^a-z]|$)") for split, words in NAMES.items()}
_BESIDE = re.compile(r"readme|licen[cs]e|notice|copying|changelog", re.IGNORECASE)
"""Files that lie beside data and are none."""


def named(source: str) -> dict[str, str]:
    """The parts of "train=A,validation=B,test=C"; empty if the source is no such list.

    Raises:
        UserError: a part is empty, comes twice, or train is missing.

    >>> named("train=a.txt,test=b.txt")
    {'train': 'a.txt', 'test': 'b.txt'}
    """
    pieces = _NAMED.split(source)
    if len(pieces) == 1:
        return {}
    found = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    if pieces[0] or "train" not in found or not all(found.values()) or len(found) < len(pieces) // 2:
        raise UserError(f"'{source}' is not understood; use train=A,validation=B,test=C, of which train is needed.")
    return found


def in_file_name(stem: str) -> str | None:
    """The split that a file's name has in it as a word of its own.

    >>> in_file_name("wiki.train"), in_file_name("dev-00001"), in_file_name("contest")
    ('train', 'validation', None)
    """
    found = [split for split, word in _WORD.items() if word.search(stem.lower())]
    return found[0] if len(found) == 1 else None


def of_data_set(names: Iterable[str]) -> dict[str, str]:
    """The name in a data set of each split that it has.

    >>> of_data_set(["dev", "train", "unsupervised"])
    {'train': 'train', 'validation': 'dev'}
    """
    own = {name.lower(): name for name in names}
    found = {split: next((own[word] for word in words if word in own), None) for split, words in NAMES.items()}
    return {split: name for split, name in found.items() if name is not None}


def of_files(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split that folders within a folder, or the files' own names, say; empty where they say nothing.

    Names count where some files are for training by them and others held out: train/, valid/ and test/, or
    wiki.train.txt and wiki.test.txt. A single "test" among other words is a title.

    Args:
        folder: of the user's.
        files: in it.

    Raises:
        UserError: some files belong to no split, while others do.
    """
    files = [path for path in files if not _BESIDE.match(path.name)]
    for split_of in (_by_folder, _by_name):
        splits = [split_of(path.relative_to(folder)) for path in files]
        held_out = {"validation", "test"}.intersection(split for split in splits if split)
        if not held_out or ("train" not in splits and split_of is _by_name):
            continue
        strays = [path for path, split in zip(files, splits, strict=True) if split is None]
        if strays or "train" not in splits:
            other = "which is for no split by its name" if strays else "and none for training"
            example = next(path for path, split in zip(files, splits, strict=True) if split in held_out)
            raise UserError(
                f"{folder} has {example.relative_to(folder)}, held out by its name, and "
                f"{strays[0].relative_to(folder) if strays else 'nothing else'}, {other}; "
                "rename it, take it away, or say what is what: train=A,validation=B,test=C."
            )
        own = [(split, path) for split, path in zip(splits, files, strict=True)]
        return {name: [path for split, path in own if split == name] for name in SPLITS if name in splits}
    return {}


def _by_folder(path: Path) -> str | None:
    """By the outermost folder that is called after a split."""
    words = (part.lower() for part in path.parts[:-1])
    return next((split for word in words for split, names in NAMES.items() if word in names), None)


def _by_name(path: Path) -> str | None:
    return in_file_name(path.name.split(".txt")[0].split(".json")[0])
