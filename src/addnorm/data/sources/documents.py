"""Documents of any number, one after the other: from text files, JSON lines, or a streamed `datasets` data set.

Only one document is in memory at a time. Each says where reading may go on behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm.data.sources import split_names, streamed_dataset, text_file
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.file_lines import json_lines, text_blocks
from addnorm.data.sources.hidden_files import shown_files
from addnorm.data.sources.pieces import Piece, Place
from addnorm.data.sources.split_names import SPLITS
from addnorm.data.sources.text_file import UTF8
from addnorm.errors import UserError
from addnorm.files import absent

_File = tuple[Path, str]
TEXT, JSON_LINES = (".txt", ".txt.gz"), (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


@dataclass(frozen=True, kw_only=True)
class SourcePart:
    """A file, or a split of a data set.

    Args:
        name: its path, or the split's.
        split: where its documents belong; None where the hash of each decides.
        size: bytes of the file.
        changed: when it was last written, in nanoseconds.
        encoding: of the file.
    """

    name: str
    split: str | None = None
    size: int = 0
    changed: int = 0
    encoding: str = UTF8


def parts(source: str) -> list[SourcePart]:
    """What a source is made of, in the order in which it is read.

    Args:
        source: a file (text, or JSON lines by its ending; both also .gz), a folder of such files, whose names may say
            the split of each (`split_names.of_files`), "train=A,validation=B,test=C" of files or folders, each
            with ";encoding=NAME" behind it where it is not in UTF-8, or "hf:NAME[:CONFIG][:COLUMN]".

    Raises:
        UserError: it does not exist, holds nothing to read, or is not understood.
    """
    if source.startswith("hf:"):
        return [SourcePart(name=name, split=split) for name, split in streamed_dataset.splits(source)]
    named = split_names.named(source)
    by_split = {split: _files(name) for split, name in named.items()} or _in_folder(source)
    if not by_split:
        return [_part(file, None) for file in _files(source)]
    whole = len(by_split) == len(SPLITS)
    found = [(file, split) for split in SPLITS for file in by_split.get(split, [])]
    return [_part(file, split if whole or split != "train" else None) for file, split in found]


def held_out(source: str, found: Sequence[SourcePart]) -> tuple[str, ...]:
    """The splits that must be held out of the training documents."""
    given = {part.split for part in found}
    return tuple(split for split in SPLITS[1:] if split not in given)


def read(source: str, found: Sequence[SourcePart], field: str, faults: BadRecords, place: Place) -> Iterator[Piece]:
    """The documents behind a place.

    Args:
        source: as the user named it.
        found: its parts.
        field: of a JSON record, the text's.
        faults: takes in records that cannot be read.
        place: where to begin.

    Raises:
        UserError: a file or a record cannot be read.
    """
    for number in range(place.part, len(found)):
        part = found[number]
        start = place if number == place.part else Place(part=number)
        if source.startswith("hf:"):
            yield from streamed_dataset.rows(source, part.name, part.split, faults, start)
        elif part.name.endswith(JSON_LINES):
            yield from json_lines(part.name, part.split, field, faults, start, part.encoding)
        else:
            yield from text_blocks(part.name, part.split, faults, start, part.encoding)


def plan(found: Sequence[SourcePart]) -> list[dict[str, Any]]:
    """The parts as plain data: what must be the same when a build is resumed."""
    return [{"name": part.name, "split": part.split, "size": part.size, "changed": part.changed} for part in found]


def _part(file: _File, split: str | None) -> SourcePart:
    path, said = file
    about = path.stat()
    encoding = text_file.encoding_of(path, said)
    return SourcePart(name=str(path), split=split, size=about.st_size, changed=about.st_mtime_ns, encoding=encoding)


def _in_folder(source: str) -> dict[str, list[_File]]:
    (folder, said), files = text_file.place(source), [path for path, _ in _files(source)]
    named = {} if files == [folder] else split_names.of_files(folder, files)
    return {split: [(path, said) for path in paths] for split, paths in named.items()}


def _files(name: str) -> list[_File]:
    """The files of that name or in the folder of that name, and the encoding said for them."""
    path, said = text_file.place(name)
    try:
        if path.is_file():
            return [(path, said)]
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise UserError(f"{name!r} cannot be read ({error}); use a file or a folder.") from None
    endings = ", ".join((*TEXT, *JSON_LINES))
    if not name or not exists or not is_folder:
        what = absent(path) if name and not exists else "is no file and no folder"
        raise UserError(f"'{name}' {what}; use a file, a folder of files {endings}, or hf:NAME.")
    found = [(file, said) for file in shown_files(path) if file.name.endswith((*TEXT, *JSON_LINES))]
    if not found:
        raise UserError(f"{path} has no files {endings}; rename them, or name one file.")
    return found
