"""The rows of a `datasets` data set as they arrive, with the extra `hf`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from addnorm.data.sources import split_names
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.huggingface import load_dataset, parse, what
from addnorm.data.sources.pieces import Piece, Place
from addnorm.errors import UserError


def splits(source: str) -> list[tuple[str, str | None]]:
    """The names of a data set's splits and what they are here; None for rows of which some are held out.

    Raises:
        UserError: the extra is missing, the data set cannot be loaded, or has no split "train".
    """
    own = split_names.of_data_set(_loaded(source))
    if "train" not in own:
        raise UserError(f"{source} has no split 'train'; use a data set with one.")
    complete = len(own) == len(split_names.SPLITS)
    return [(name, split if complete or split != "train" else None) for split, name in own.items()]


def rows(source: str, name: str, split: str | None, faults: BadRecords, start: Place) -> Iterator[Piece]:
    """The texts of a split's rows.

    Args:
        source: "hf:NAME[:CONFIG][:COLUMN]".
        name: of the split.
        split: what it is here.
        faults: takes in rows without a text.
        start: where to begin.

    Raises:
        UserError: the data set cannot be read, or a row.
    """
    column = parse(source)[2]
    line = start.line
    for row in _rows(source, name, line):
        line += 1
        where, text = f"{source}, split {name}, row {line}", row.get(column)
        if column not in row:
            faults.found(where, f"has no column '{column}', only {', '.join(map(repr, list(row)[:10]))}")
        elif not isinstance(text, str):
            faults.found(where, f"the column '{column}' is {what(text)}")
        elif text.strip():
            yield Piece(text=text, split=split, after=Place(part=start.part, line=line))


def _rows(source: str, name: str, done: int) -> Iterator[dict[str, Any]]:
    found = _loaded(source)[name]
    try:
        yield from found.skip(done) if done else found
    except Exception as error:  # the network, the archive: each its own class, none of them ours
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} broke off ({reason}); the same command with --resume goes on.") from error


def _loaded(source: str) -> Any:
    name, config, _ = parse(source)
    return load_dataset(source, name, config, streaming=True)
