"""Text from a `datasets` data set, with the extra `hf`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from addnorm.data import split_names, text_file
from addnorm.data.text import Document, TextSplits, complete
from addnorm.errors import UserError, unknown

BLOCK_CHARACTERS = 100_000
"""Rows are gathered into documents of about this size, which are held out whole."""
MAX_BLOCKS = 1_000
"""Of a split; rows behind them are left out, so that a web-sized set does not fill the memory."""
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
    parts = {split: _blocks(source, name, splits[name], column) for split, name in own.items()}
    if len(parts) < len(split_names.SPLITS) and len(parts["train"]) < len(split_names.SPLITS):
        raise UserError(
            f"{source} has too little text to hold some out: less than {2 * BLOCK_CHARACTERS} characters in 'train'; "
            "use a larger data set, or one with splits 'validation' and 'test'."
        )
    return complete(source, parts)


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


def _blocks(source: str, split: str, rows: Any, column: str) -> list[Document]:
    """The rows' texts in documents of about `BLOCK_CHARACTERS`."""
    if column not in rows.column_names:
        raise unknown(f"column of {source}", column, rows.column_names)
    texts = islice(_gather(_texts(source, rows, column)), MAX_BLOCKS)
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


def _texts(source: str, rows: Any, column: str) -> Iterator[str]:
    for row in rows:
        text = row[column]
        if text is None:  # an empty cell
            continue
        if not isinstance(text, str):
            raise UserError(f"column '{column}' of {source} holds {type(text).__name__}, not text; name a text column.")
        if text.strip():
            yield text
