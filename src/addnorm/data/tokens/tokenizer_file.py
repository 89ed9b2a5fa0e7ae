"""A tokenizer.json of anybody's, opened so that whatever is wrong with it is an error of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from addnorm.json_file import read_bytes

LONGEST = 2**28
"""Bytes; the largest vocabularies in use take some 2^25."""


def read_text(path: Path) -> str:
    """The text of a tokenizer.json.

    Raises:
        OSError: it cannot be read, is no regular file, or is too long.
        ValueError: it is no UTF-8.
    """
    return read_bytes(path, LONGEST).decode()


def opened(serialized: str) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json.

    Raises:
        ValueError: the library gave up on it, or an id is beyond the vocabulary.
        Exception: the library refused it.
    """
    from tokenizers import Tokenizer

    with _panics_as_errors():
        tokenizer = Tokenizer.from_str(serialized)
    _check_ids(tokenizer)
    return tokenizer


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Inside, a panic of `tokenizers` is a ValueError: it is no Exception, and is printed past Python.

    Raises:
        ValueError: the library gave up.
    """
    with _without_standard_error():
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise ValueError(f"the package tokenizers gave up on it: {error}") from None


@contextmanager
def _without_standard_error() -> Iterator[None]:
    """Inside, what a library writes to the descriptor itself goes nowhere."""
    kept = None
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    except OSError:  # it is closed already
        pass
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 2)
            os.close(kept)


def _check_ids(tokenizer: Any) -> None:
    """Refuse ids that an embedding with a row for each token has no row for.

    Raises:
        ValueError: which token.
    """
    vocabulary = tokenizer.get_vocab()
    token = max(vocabulary, key=vocabulary.__getitem__, default=None)
    if token is None:
        raise ValueError("it has no tokens")
    if vocabulary[token] >= tokenizer.get_vocab_size():
        count = tokenizer.get_vocab_size()
        raise ValueError(f"token {token!r:.40} has id {vocabulary[token]}, beyond its {count} tokens")
