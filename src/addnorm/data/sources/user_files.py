"""What a user's source names: files for training, validation and test, and the records of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from addnorm.data.sources import split_names, text_file
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.hidden_files import shown_here
from addnorm.data.sources.split_names import SPLITS
from addnorm.data.texts import repeats
from addnorm.data.texts.records import Record, Splits, hold_out
from addnorm.errors import UserError


def find(source: str, suffixes: Sequence[str]) -> dict[str, str]:
    """The file of each split; what is missing is held out of "train".

    Args:
        source: a file; a folder with files that have train, validation (valid, val, dev) and test in their names; or
            "train=FILE,validation=FILE,test=FILE". Each may have ";encoding=NAME" behind it, see `text_file.parse`.
        suffixes: endings of the files looked for in a folder.

    Raises:
        UserError: there is no such file or folder, or no file for training, or two for one split.
    """
    if found := split_names.named(source):
        return found
    path, encoding = text_file.place(source)
    if source and path.is_dir():
        return {split: text_file.named(file, encoding) for split, file in _in_folder(path, suffixes).items()}
    if source:
        return {"train": source}
    raise UserError(f"data is empty; use a file ({', '.join(suffixes)}), a folder, train=FILE,test=FILE, or hf:NAME.")


def assemble(
    source: str,
    records: dict[str, list[Record]],
    key: Callable[[Record], str],
    notes: Sequence[str] = (),
    faults: BadRecords | None = None,
    drop_repeats: bool = False,
) -> Splits[Record]:
    """The records of each split; validation or test, where missing, is held out of train.

    Args:
        source: as the user named it.
        records: of each split that it has.
        key: records of one key are not held out of each other.
        notes: what was left out while reading.
        faults: of the records, which are told of.
        drop_repeats: leave out of training what is held out too.

    Raises:
        UserError: too many records are bad, a split has no record, or train too few to hold some out.
    """
    if faults is not None:
        notes = [*notes, *faults.report(source, sum(map(len, records.values())))]
    for split, part in records.items():
        if not part:
            raise UserError(f"{source} has no record for {split}; use a file with records in it.")
    if "train" not in records:
        raise UserError(f"{source} has no split train, only {', '.join(records)}; add it, as in train=FILE.")
    missing = [split for split in SPLITS[1:] if split not in records]
    train, *held = hold_out(records["train"], key, origin=source, parts=len(missing)) if missing else [records["train"]]
    held_out = dict(zip(missing, held, strict=True))
    validation, test = (tuple(held_out.get(split) or records[split]) for split in SPLITS[1:])
    every = {"train": train, "validation": validation, "test": test}
    kept, repeated = repeats.of_records(source, every, _asked, drop=drop_repeats)
    return Splits(origin=source, train=kept, validation=validation, test=test, notes=(*notes, *repeated))


def _asked(record: Any) -> tuple[str, ...]:
    """The texts of a record that an answer is given to; case and white space do not count."""
    names = ("text", "first", "second", "source", "question", "context")
    texts = (getattr(record, name, "") for name in names)
    return tuple(" ".join(text.lower().split()) for text in texts)


def _in_folder(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    files = [path for path in shown_here(folder) if path.is_file() and path.suffix.lower() in suffixes]
    found: dict[str, str] = {}
    for split in SPLITS:
        own = [path for path in files if split_names.in_file_name(path.stem) == split]
        if len(own) > 1:
            raise UserError(
                f"{folder} has two files for {split}, {own[0].name} and {own[1].name}; use {split}=FILE to choose."
            )
        if own:
            found[split] = str(own[0])
    if "train" not in found and len(files) == 1:
        return {"train": str(files[0])}
    if "train" not in found:
        raise UserError(
            f"{folder} has {len(files)} files {', '.join(suffixes)}, none with train in its name; "
            "rename one, or use train=FILE,validation=FILE,test=FILE."
        )
    return found
