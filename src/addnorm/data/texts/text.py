"""Text in three splits, from a file or a folder of the user's."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from addnorm.data.sources import split_names, text_file
from addnorm.data.sources.hidden_files import shown_files
from addnorm.data.sources.split_names import SPLITS
from addnorm.data.sources.text_file import read_text
from addnorm.errors import UserError

HELD_OUT = 0.05
"""Share of a user's text held out for validation, and again for test."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One whole work: a play, a file, a row of a data set."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class TextSplits:
    """Documents to train on, to choose by, and to report on, none in two of them; `notes` are on their reading."""

    origin: str
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 over every split's names and texts: equal exactly when the data are equal."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(f"split {len(split)}\n".encode())
            for document in split:
                content = document.text.encode()
                digest.update(f"{len(document.name.encode())} {len(content)} {document.name}\n".encode())
                digest.update(content)
        return digest.hexdigest()


def joined(documents: tuple[Document, ...]) -> str:
    """The documents as one text, two newlines between them.

    >>> joined((Document(name="a", text="To be"), Document(name="b", text="or not")))
    'To be\\n\\nor not'
    """
    return "\n\n".join(document.text for document in documents)


def load_file(path: Path, *, encoding: str = "", held_out: float = HELD_OUT) -> TextSplits:
    """One text file: its end is the test split, what stands before that the validation split.

    Args:
        path: a text file.
        encoding: of it, as in `read_text`.
        held_out: share of the characters for validation, and again for test; each cut moves back to
            the nearest paragraph, line or word boundary.

    Raises:
        UserError: the file is missing, empty, not text, or too short to be cut in three.
    """
    document = Document(name=path.name, text=read_text(path, encoding))
    return complete(str(path), {"train": [document]}, held_out=held_out)


def complete(origin: str, parts: Mapping[str, Sequence[Document]], *, held_out: float = HELD_OUT) -> TextSplits:
    """The splits of a source; validation and test, where missing, are held out of its training documents.

    Whole documents are, as in `load_folder`, where there are enough; of a single one, its end.

    Raises:
        UserError: there is too little to hold out.
    """
    missing = [split for split in SPLITS[1:] if split not in parts]
    train = list(parts["train"])
    if missing and len(train) == 1:
        train, *held = _ends(origin, train[0], missing, held_out)
    elif missing and len(train) <= len(missing):
        raise UserError(
            f"{origin} has {len(train)} training texts, too few to hold {' and '.join(missing)} out; add texts, or "
            "name all splits: train=A,validation=B,test=C."
        )
    elif missing:
        train, *held = _whole(train, len(missing), held_out)
    else:
        held = []
    found = {**parts, **dict(zip(missing, held, strict=True))}
    return TextSplits(
        origin=origin, train=tuple(train), validation=tuple(found["validation"]), test=tuple(found["test"])
    )


def _ends(origin: str, document: Document, names: list[str], share: float) -> list[list[Document]]:
    """A document in as many parts and one more: the last parts have about a share of it each."""
    text, size = document.text, max(1, round(len(document.text) * share))
    cuts = [len(text)]
    for _ in names:
        cuts.append(boundary(text, cuts[-1] - size, reach=size // 2))
    cuts = [0, *reversed(cuts)]
    if any(end <= start for start, end in itertools.pairwise(cuts)):
        raise UserError(
            f"{origin} has {len(text)} characters, too few to cut into training, validation and test; "
            "use a longer text."
        )
    called = {"validation": f"{document.name}, validation", "test": f"{document.name}, end"}
    titles = [document.name, *(called[name] for name in names)]
    return [
        [Document(name=title, text=text[start:end])]
        for title, (start, end) in zip(titles, itertools.pairwise(cuts), strict=True)
    ]


def boundary(text: str, near: int, *, reach: int) -> int:
    """The last paragraph break in the `reach` characters before `near`; else line break; else space; else `near`.

    >>> boundary("One line.\\nAnother line.", 15, reach=10)
    10
    """
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, max(0, near - reach), near)
        if found >= 0:
            return found + len(mark)
    return near


def load_folder(path: Path, *, encoding: str = "", held_out: float = HELD_OUT) -> TextSplits:
    """A folder of *.txt files, also in folders within it: in splits by their names, or whole files are held out.

    Which files is decided by the hash of their names, so that it neither follows the alphabet nor changes when
    the text of a file does; files above a quarter of the whole are held out only when nothing smaller is left.

    Raises:
        UserError: there are fewer than three files, or one of them is empty or not text.
    """
    paths = text_files(path)
    named = split_names.of_files(path, paths)
    if named:
        parts = {split: [_document(path, file, encoding) for file in files] for split, files in named.items()}
        return complete(str(path), parts, held_out=held_out)
    if len(paths) < 3:
        raise UserError(
            f"{path} has {len(paths)} files *.txt; whole files are held out, which needs 3 or more: "
            "add files, or name one text file, whose end is held out."
        )
    return complete(str(path), {"train": [_document(path, file, encoding) for file in paths]}, held_out=held_out)


def load_parts(origin: str, parts: Mapping[str, str]) -> TextSplits:
    """A file or a folder of *.txt for each split, as `text_file.parse` takes it; the rest is held out of "train"."""
    found = {split: _documents(*text_file.place(name)) for split, name in parts.items()}
    return complete(origin, found)


def text_files(folder: Path) -> list[Path]:
    """The files *.txt in a folder and below that are not hidden."""
    return [file for file in shown_files(folder) if file.suffix == ".txt"]


def _documents(path: Path, encoding: str) -> list[Document]:
    if not path.is_dir():
        return [Document(name=path.name, text=read_text(path, encoding))]
    files = text_files(path)
    if not files:
        raise UserError(f"{path} has no files *.txt; rename them, or name one file.")
    return [_document(path, file, encoding) for file in files]


def _document(folder: Path, file: Path, encoding: str) -> Document:
    return Document(name=str(file.relative_to(folder)), text=read_text(file, encoding))


def hold_out(origin: str, documents: list[Document], share: float) -> TextSplits:
    """Set whole documents aside, by the hash of their names, until validation and test have their shares."""
    train, validation, test = _whole(documents, 2, share)
    return TextSplits(origin=origin, train=tuple(train), validation=tuple(validation), test=tuple(test))


def _whole(documents: Sequence[Document], parts: int, share: float) -> list[list[Document]]:
    """The training documents, then those of each of the held-out parts."""
    wanted = share * sum(len(document.text) for document in documents)
    limit = sum(len(document.text) for document in documents) / 4
    waiting = sorted(documents, key=lambda document: _held_out_order(document, limit))
    splits: list[list[Document]] = []
    for still_needed in range(parts, 0, -1):  # what comes after: the other part and training, then training
        chosen: list[Document] = []
        while not chosen or (len(waiting) > still_needed and _characters(chosen) < wanted):
            chosen.append(waiting.pop(0))
        splits.append(sorted(chosen, key=_name))
    return [sorted(waiting, key=_name), *splits]


def _held_out_order(document: Document, limit: float) -> tuple[bool, str]:
    return len(document.text) > limit, hashlib.sha256(document.name.encode()).hexdigest()


def _name(document: Document) -> str:
    return document.name


def _characters(documents: list[Document]) -> int:
    return sum(len(document.text) for document in documents)
