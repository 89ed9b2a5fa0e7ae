"""A file in another encoding, read as if it were in UTF-8, with a bounded part of it in memory."""

from __future__ import annotations

import codecs
import io
from typing import IO, Any

_CHUNK = 2**16
"""Bytes that are decoded at once."""
_UNREAD = "addnorm.unread"
_FIRST, _LAST = 0xDC00, 0xDCFF
"""Lone surrogates, which no text has: U+DC00 + byte stands for a byte that could not be decoded."""


class Recoded(io.RawIOBase):
    """The bytes of a text in UTF-8; what cannot be decoded becomes bytes that are no UTF-8, for `unread_byte`.

    Args:
        file: in the other encoding, at its beginning.
        encoding: its name.
    """

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file: Any = file
        self._decoder = codecs.getincrementaldecoder(encoding)(_UNREAD)
        self._ready, self._ended = b"", False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or a part of it; 0 at the end."""
        while not self._ready and not self._ended:
            content = self._file.read1(_CHUNK)
            self._ended = not content
            self._ready = self._decoder.decode(content, self._ended).encode("utf-8", "surrogatepass")
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def unread_byte(content: bytes) -> int | None:
    """The first byte of the other encoding that could not be decoded, by the UTF-8 that stands for it."""
    text = content.decode("utf-8", "surrogatepass")
    return next((ord(character) & 0xFF for character in text if _FIRST <= ord(character) <= _LAST), None)


def _unread(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return chr(_FIRST + error.object[error.start]), error.end


codecs.register_error(_UNREAD, _unread)
