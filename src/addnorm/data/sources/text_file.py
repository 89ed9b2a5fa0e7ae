"""A user's text file: which encoding it is in, and its text."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

from addnorm.errors import UserError
from addnorm.files import absent

UTF8 = "UTF-8"
NAMING = ";encoding="
"""Stands between a file or folder and the encoding that the user says it is in."""
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, with whose mark it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {
    b"\x1f\x8b": "gzipped",
    b"PK\x03\x04": "a zip archive, or a document that is one",
    **{b"BZh%d1AY&SY" % level: "packed by bzip2" for level in range(1, 10)},
    b"\xfd7zXZ\0": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"%PDF-": "a PDF document",
}
"""How files begin that are often given for a text; naming an encoding would not help."""
_OF_NO_FILE = ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape")
"""What Python calls encodings, and no file is in."""


def parse(name: str) -> tuple[str, str]:
    """A file or folder, and the encoding that is named behind it; empty if none is.

    Raises:
        UserError: there is no such encoding.

    >>> parse("notes.txt;encoding=latin-1"), parse("notes.txt")
    (('notes.txt', 'latin-1'), ('notes.txt', ''))
    """
    path, mark, encoding = name.rpartition(NAMING)
    if not mark:
        return name, ""
    try:
        known = "".encode(encoding) is not None and codecs.lookup(encoding).name not in _OF_NO_FILE
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        known = False
    if not known:
        raise UserError(
            f"encoding '{encoding}' of '{path}' is not known; use utf-8, utf-16, cp1252, latin-1, gb18030, shift_jis "
            "or another of Python's."
        )
    return path, UTF8 if codecs.lookup(encoding).name == "utf-8" else encoding


def place(file: Path | str) -> tuple[Path, str]:
    """The path of a file that may have its encoding behind it, and that encoding."""
    name, encoding = parse(str(file))
    return Path(name).expanduser(), encoding


def named(path: Path | str, encoding: str) -> str:
    """A path with its encoding behind it, as `parse` takes it."""
    return f"{path}{NAMING}{encoding}" if encoding else str(path)


def encoding_of(path: Path, said: str = "") -> str:
    """The encoding of a file, also gzipped: that of its byte-order mark, else what is said, else UTF-8."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            start = file.read(4)
    except (OSError, EOFError):  # reading it says so
        start = b""
    return _by_mark(start) or said or UTF8


def advice(path: Path | str) -> str:
    """How another encoding is named."""
    return f"name its encoding, as in '{path}{NAMING}cp1252' (or latin-1, gb18030, shift_jis, utf-16-le ...)"


def read_text(path: Path, said: str = "") -> str:
    """A file's text, without a byte-order mark, which decides on the encoding where there is one.

    Args:
        path: the file.
        said: the encoding that the user names; UTF-8 if none.

    Raises:
        UserError: the file is missing, unreadable, empty, or not text in that encoding; the line of the first bad
            byte is named.
    """
    content = _read_bytes(path)
    if packed := next((kind for mark, kind in _PACKED.items() if content.startswith(mark)), ""):
        raise UserError(f"{path} is {packed}, not a plain text file; take the text out of it first.")
    encoding = _by_mark(content) or said or UTF8
    if b"\0" in content and b"\0" not in "a".encode(encoding):  # binary, whatever else is wrong with it
        raise _has_nul(path, encoding, content.count(b"\n", 0, content.index(b"\0")) + 1)
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, "replace").count("\n") + 1
        raise UserError(
            f"{path}, line {line}, has the byte {content[error.start]:#04x}, which is not {encoding} there; "
            f"{advice(path)}, or save it as UTF-8."
        ) from None
    if "\0" in text:
        raise _has_nul(path, encoding, text.count("\n", 0, text.index("\0")) + 1)
    if not text.strip():
        raise UserError(f"{path} is empty; use a file with text in it.")
    return text


def read_lines(path: Path, said: str = "") -> list[str]:
    r"""A file's lines without their ends, \n or \r\n; otherwise as `read_text`."""
    return read_text(path, said).removesuffix("\n").replace("\r\n", "\n").removesuffix("\r").split("\n")


def _has_nul(path: Path, encoding: str, line: int) -> UserError:
    return UserError(
        f"{path}, line {line}, has a NUL byte, so it is no text in {encoding}; use a plain text file, or, if it is "
        f"text, {advice(path)}."
    )


def _by_mark(content: bytes) -> str:
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "")


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file; use a text file, or a folder of them.")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} {absent(path)}; use a text file, or a folder of them.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path!s} cannot be read ({reason}); use a text file you may read.") from None
