"""What a user's source names: files for training, validation and test, and their lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from addnorm.data import repeats, split_names
from addnorm.data.faults import Faults
from addnorm.data.records import Record, Splits, hold_out
from addnorm.data.split_names import SPLITS
from addnorm.errors import UserError
from addnorm.files import absent


def find(source: str, suffixes: Sequence[str]) -> dict[str, str]:
    """The file of each split; what is missing is held out of "train".

    Args:
        source: a file; a folder with files that have train, validation (valid, val, dev) and test in their names; or
            "train=FILE,validation=FILE,test=FILE".
        suffixes: endings of the files looked for in a folder.

    Raises:
        UserError: there is no such file or folder, or no file for training, or two for one split.
    """
    if found := split_names.named(source):
        return found
    path = Path(source).expanduser()
    if source and path.is_dir():
        return _in_folder(path, suffixes)
    if source:
        return {"train": source}
    raise UserError(f"data is empty; use a file ({', '.join(suffixes)}), a folder, train=FILE,test=FILE, or hf:NAME.")


def assemble(
    source: str,
    records: dict[str, list[Record]],
    key: Callable[[Record], str],
    notes: Sequence[str] = (),
    faults: Faults | None = None,
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


def read_lines(path: Path) -> list[str]:
    r"""A file's lines without their ends, \n or \r\n, and without a byte-order mark.

    Raises:
        UserError: the file is missing, empty, or not UTF-8 text; the line of the first bad byte is named.
    """
    return read_text(path).removesuffix("\n").replace("\r\n", "\n").removesuffix("\r").split("\n")


def read_text(path: Path) -> str:
    """A file's text; the same errors as `read_lines`."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file; use a text file in UTF-8.")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = absent(path) if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise UserError(f"{path} {reason}; use a text file in UTF-8.") from None
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise UserError(f"{path}, line {line}, has a NUL byte: it is no UTF-8 text; save it as UTF-8 (not UTF-16).")
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}, has the byte {content[error.start]:#04x}: save the file as UTF-8."
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty; use a file with records in it.")
    return text


def _in_folder(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in suffixes)
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
