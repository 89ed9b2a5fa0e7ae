"""Files written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from addnorm.errors import UserError
from addnorm.json_file import read_objects


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write a file to a temporary name beside it, sync it, rename it.

    Args:
        path: where the file shall stand; its folder is made if missing.
        content: the bytes, the text (UTF-8), or a function that writes to the path it is given.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all; NaN and infinity become strings."""
    write_atomically(path, json_text(value))


def json_text(value: Any) -> str:
    """A value as indented JSON with a newline; NaN and infinity become strings."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row to a JSON-lines file in a single synced write, so that a crash tears at most the last line."""
    line = json.dumps(finite(row), allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if os.write(descriptor, line.encode()) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a short write is what a nearly full disk does
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; a torn last line (a crash while writing) is left out.

    Raises:
        OSError: it cannot be read.
        UserError: another line is no JSON object.
    """
    content = path.read_bytes()
    rows, bad = read_objects(content)
    if bad and (bad[0] <= content.count(b"\n") or len(bad) > 1):
        raise UserError(f"{path} line {bad[0]} is no row of it; the file is damaged: put it back, or delete it.")
    return [row for _, row in rows]


def finite(value: Any) -> Any:
    """The same nested value with NaN and infinities as the strings 'nan', 'inf', '-inf' (JSON has none of them)."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def absent(path: Path) -> str:
    """Says that a path does not exist, and where a relative one was looked for."""
    return "does not exist" if path.is_absolute() else f"does not exist in {Path.cwd()}, where relative paths begin"
