"""Text from a `datasets` data set, with the extra `hf`."""

from __future__ import annotations

import datetime
import importlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from addnorm.data.sources import split_names, text_file
from addnorm.data.sources.bad_records import RecordWarning
from addnorm.data.texts.text import Document, TextSplits, complete
from addnorm.errors import UserError, unknown

BLOCK_CHARACTERS = 100_000
"""Rows are gathered into documents of about this size, which are held out whole."""
MAX_BLOCKS = 1_000
"""Of a split; rows behind them are left out, so that a web-sized set does not fill the memory."""
_ADVICE = (
    "`datasets` makes that of blank, NA and null in CSV and JSON files, and of what looks like a date; "
    "give the file itself, without hf:, to have all as text"
)
_SAVED = ("dataset_dict.json", "state.json")
"""What `save_to_disk` writes into a folder: several splits, or one."""


def load(source: str) -> TextSplits:
    """The text column of a data set, in its own splits where it has them.

    What a data set lacks of validation and test is held out of its training rows, in whole blocks.

    Args:
        source: "hf:NAME", "hf:NAME:CONFIG", "hf:NAME:CONFIG:COLUMN" or "hf:NAME::COLUMN"; the column is "text"
            unless named.

    Raises:
        UserError: the extra `hf` is missing, or the data set, config, or column is.
    """
    name, config, column = parse(source)
    splits = load_dataset(source, name, config)
    if "train" not in split_names.of_data_set(splits):
        raise UserError(f"{source} has no split 'train', only {', '.join(splits)}; use a data set with one.")
    own = split_names.of_data_set(splits)
    empty: dict[str, int] = {}
    parts = {split: _blocks(source, name, splits[name], column, empty) for split, name in own.items()}
    if nothing := [own[split] for split, documents in parts.items() if not documents]:
        raise UserError(
            f"{source} has no text in column '{column}' of split {', '.join(nothing)}; name another column."
        )
    if len(parts) < len(split_names.SPLITS) and len(parts["train"]) < len(split_names.SPLITS):
        raise UserError(
            f"{source} has too little text to hold some out: less than {2 * BLOCK_CHARACTERS} characters in 'train'; "
            "use a larger data set, or one with splits 'validation' and 'test'."
        )
    return replace(complete(source, parts), notes=_skipped(source, column, empty))


def what(value: Any) -> str:
    """What a value that is no text is, and, where `datasets` made it of one, how to have the text."""
    kind = "nothing" if value is None else type(value).__name__
    return kind + (f", not text; {_ADVICE}" if was_text(value) else ", not text")


def was_text(value: Any) -> bool:
    """Whether `datasets` makes such a value of some texts in files: nothing, or a date or time."""
    return value is None or isinstance(value, (datetime.date, datetime.time))


def _skipped(source: str, column: str, empty: dict[str, int]) -> tuple[str, ...]:
    """A note on rows without text, and a warning: a text that reads "null" or "NA" is among them."""
    counts = " and ".join(f"{count:,} rows of {split}" for split, count in empty.items() if count)
    if not counts:
        return ()
    note = f"skipped {counts} of {source}, which have nothing in column '{column}'"
    warnings.warn(f"{note}: {_ADVICE}.", RecordWarning, stacklevel=4)
    return (note,)


def parse(source: str) -> tuple[str, str | None, str]:
    """Name, config and column.

    >>> parse("hf:someone/stories::story")
    ('someone/stories', None, 'story')
    """
    if text_file.NAMING in source:
        raise UserError(
            f"'{source}' names an encoding, which `datasets` does not take; give the file itself without hf:."
        )
    parts = source.removeprefix("hf:").split(":")
    if len(parts) > 3 or not parts[0]:
        raise UserError(f"data '{source}' is not understood; use hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:COLUMN.")
    name, config, column = (*parts, "", "")[:3]
    return name, config or None, column or "text"


def load_dataset(source: str, name: str, config: str | None, **how: Any) -> Any:
    """The splits of a data set by name, of a local folder with data files, or of what `save_to_disk` left.

    Args:
        source: what the user called it.
        name: of the data set, or a folder.
        config: of the data set.
        how: more for `datasets.load_dataset`.

    Raises:
        UserError: the extra `hf` is missing, or the data set cannot be loaded.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise UserError(f"data '{source}' needs the extra hf; run: pip install 'addnorm[hf]'") from None
    try:
        if any((Path(name) / file).is_file() for file in _SAVED):
            found = datasets.load_from_disk(name)
            return found if isinstance(found, dict) else {"train": found}
        return datasets.load_dataset(name, config, **how)
    except Exception as error:  # not found, offline, unknown config: each its own class, none of them ours
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} cannot be loaded ({reason}); use the name of a data set you can reach.") from error


def _blocks(source: str, split: str, rows: Any, column: str, empty: dict[str, int]) -> list[Document]:
    """The rows' texts in documents of about `BLOCK_CHARACTERS`; rows with nothing in them are counted in `empty`."""
    if column not in rows.column_names:
        raise unknown(f"column of {source}", column, rows.column_names)
    texts = islice(_gather(_texts(source, split, rows, column, empty)), MAX_BLOCKS)
    return [Document(name=f"{split} {number}", text=text) for number, text in enumerate(texts)]


def _gather(texts: Iterable[str]) -> Iterator[str]:
    """Texts with two newlines between them, cut into blocks at the end of a text."""
    gathered: list[str] = []
    size = 0
    for text in texts:
        gathered.append(text)
        size += len(text)
        if size >= BLOCK_CHARACTERS:
            yield "\n\n".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield "\n\n".join(gathered)


def _texts(source: str, split: str, rows: Any, column: str, empty: dict[str, int]) -> Iterator[str]:
    for number, row in enumerate(rows, start=1):
        text = row[column]
        if text is None:  # an empty cell, or what `datasets` takes for one
            empty[split] = empty.get(split, 0) + 1
            continue
        if not isinstance(text, str):
            mend = "" if was_text(text) else "; name a text column"
            raise UserError(f"{source}, {split} row {number}: column '{column}' holds {what(text)}{mend}.")
        if text.strip():
            yield text
