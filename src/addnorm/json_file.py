"""JSON that others may have written: bounded in size and depth, of the type that is asked for."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

LONGEST = 2**26
"""Bytes of a stored file: a run's largest has some 10^5."""
DEEPEST = 100
"""Brackets within brackets; ours have five. The parser, and whatever walks a value, recurse once a level."""


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or nested too deeply.

    >>> parsed("[" * 200_000)
    Traceback (most recent call last):
    ValueError: brackets are nested more than 100 deep
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level, depth = [value], 0
    while level := [item for outer in level for item in _items(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
    return value


def read_bytes(path: Path, longest: int = LONGEST) -> bytes:
    """The content of a file: a pipe or a device would never end, or answer another time otherwise.

    Raises:
        OSError: it cannot be read, is no regular file, or is longer.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe waits for its other end
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file", str(path))
        content = file.read(min(about.st_size, longest) + 1)  # takes the memory for all it is asked for at once
        if len(content) > about.st_size:  # it grows, or its system does not tell its size
            content += file.read(longest + 1 - len(content))
    if len(content) > longest:
        raise OSError(errno.EFBIG, f"it is longer than {longest:,} bytes", str(path))
    return content


def read_object(path: Path, longest: int = LONGEST) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        OSError: it cannot be read, is no regular file, or is too long.
        ValueError: it holds something else.
    """
    value = parsed(read_bytes(path, longest))
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def read_objects(content: bytes) -> tuple[list[tuple[int, dict[str, Any]]], list[int]]:
    """The rows of JSON lines.

    Returns:
        Each row that is an object, with its line number from 1; and the numbers of the lines that are none.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[int] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = parsed(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            rows.append((number, value))
        else:
            bad.append(number)
    return rows, bad


_TOO_DEEP = f"brackets are nested more than {DEEPEST} deep"


def _items(value: Any) -> list[Any]:
    """What stands one level within; only lists and objects go deeper."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in inner if isinstance(item, (dict, list))]
