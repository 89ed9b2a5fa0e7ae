"""The records of a text file or of a file of JSON lines, also gzipped, with a bounded part of the file in memory."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.pieces import Piece, Place
from addnorm.data.sources.recoded import Recoded, unread_byte
from addnorm.data.sources.text_file import UTF8, advice
from addnorm.errors import UserError
from addnorm.json_file import parsed

BLOCK_CHARACTERS = 32_768
"""A text file is cut into blocks of about this size, each held out or trained on as a whole."""
LINE_BYTES = 2**20
"""Of a text file's line that are read at once."""
RECORD_BYTES = 2**26
"""The longest JSON line; a longer one is a bad record."""
# No BPE token reaches across such a place, see addnorm.data.tokens.tokenizer.
_ENDS, _BEGINS = re.compile(r"\S\n\Z"), re.compile(r"\S")


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A line of text, or a mebibyte of a long one, and where it stands."""

    text: str
    before: Place
    after: Place


def json_lines(
    name: str, split: str | None, field: str, faults: BadRecords, start: Place, encoding: str = UTF8
) -> Iterator[Piece]:
    """The texts of a file with a JSON object a line.

    Args:
        name: of the file.
        split: of its documents.
        field: the text's.
        faults: takes in lines that are no such object.
        start: where to begin.
        encoding: of the file.

    Raises:
        UserError: the file cannot be read, or a record.
    """
    place = start
    with _opened(name, start, encoding) as file:
        for content in _raw_lines(file, name, place, faults, RECORD_BYTES + 1):
            place = Place(part=start.part, offset=place.offset + len(content), line=place.line + 1)
            if len(content) > RECORD_BYTES and not content.endswith(b"\n"):
                rest = _rest_of_line(file)
                place = Place(part=start.part, offset=place.offset + rest, line=place.line)
                faults.found(f"{name}, line {place.line}", f"is longer than {RECORD_BYTES:,} bytes")
                continue
            text = _text_of(content, name, place.line, encoding, field, faults)
            if text.strip():
                yield Piece(text=text, split=split, after=place)


def text_blocks(
    name: str, split: str | None, faults: BadRecords, start: Place, encoding: str = UTF8
) -> Iterator[Piece]:
    """A text file in blocks of about `BLOCK_CHARACTERS`, cut between lines where no token would reach across.

    Args:
        name: of the file.
        split: of its blocks.
        faults: takes in lines that are no text.
        start: where to begin.
        encoding: of the file.

    Raises:
        UserError: the file cannot be read, or a line is no text.
    """
    gathered: list[_Line] = []
    size = 0
    with _opened(name, start, encoding) as file:
        for line in _lines(file, name, encoding, faults, start):
            if size >= BLOCK_CHARACTERS and (size >= 2 * BLOCK_CHARACTERS or _may_cut(gathered[-1], line)):
                yield _block(gathered, split, line.before)
                gathered, size = [], 0
            gathered.append(line)
            size += len(line.text)
    if gathered:
        yield _block(gathered, split, gathered[-1].after)


def _may_cut(last: _Line, following: _Line) -> bool:
    return bool(_ENDS.search(last.text[-2:]) and _BEGINS.match(following.text))


def _block(lines: list[_Line], split: str | None, after: Place) -> Piece:
    """Lines as one piece; `after` is where the next line stands, so that bad lines between are not met again."""
    before = lines[0].before if lines[0].before.offset else None
    return Piece(text="".join(line.text for line in lines), split=split, before=before, after=after)


def _lines(file: IO[bytes], name: str, encoding: str, faults: BadRecords, start: Place) -> Iterator[_Line]:
    """The lines that are text in the file's encoding; they come in UTF-8."""
    place, rest = start, b""
    for content in _raw_lines(file, name, start, faults, LINE_BYTES):
        content = rest + content
        ends = content.endswith(b"\n")
        whole = content if ends else content[: _whole_characters(content)]
        rest = content[len(whole) :]
        after = Place(part=start.part, offset=place.offset + len(whole), line=place.line + ends)
        text = _decoded(whole, name, place.line + 1, encoding, faults)
        if text is not None:
            yield _Line(text=text if place.offset else text.removeprefix("\ufeff"), before=place, after=after)
        place = after
    if rest:
        faults.found(f"{name}, line {place.line + 1}", "ends in the middle of a UTF-8 character")


def _raw_lines(file: IO[bytes], name: str, start: Place, faults: BadRecords, limit: int) -> Iterator[bytes]:
    """Lines with their ends, or what `limit` lets through of them; a damaged archive ends with a fault."""
    line = start.line
    while True:
        try:
            content = file.readline(limit)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return faults.found(f"{name}, line {line + 1}", f"the compressed data end or are damaged here ({error})")
        except OSError as error:
            raise UserError(f"{name} cannot be read behind line {line} ({error.strerror or error}).") from error
        if not content:
            return None
        yield content
        line += content.endswith(b"\n")


def _rest_of_line(file: IO[bytes]) -> int:
    """Read up to the end of the line; how many bytes."""
    count = 0
    while content := file.readline(LINE_BYTES):
        count += len(content)
        if content.endswith(b"\n"):
            break
    return count


def _whole_characters(content: bytes) -> int:
    """How many bytes there are up to a character that is cut off.

    >>> _whole_characters("aï".encode()), _whole_characters("aï".encode()[:-1])
    (3, 1)
    """
    for back in range(1, min(4, len(content) + 1)):
        byte = content[-back]
        if byte >= 0xC0:  # begins a character of 2, 3 or 4 bytes
            needed = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return len(content) - back if back < needed else len(content)
        if byte < 0x80:
            break
    return len(content)


def _decoded(content: bytes, name: str, line: int, encoding: str, faults: BadRecords) -> str | None:
    where = f"{name}, line {line}"
    zero = content.find(b"\0")
    if zero >= 0:
        return faults.found(where, f"byte {zero + 1} is NUL, so this is no {encoding} text; {advice(name)}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if encoding == UTF8:
            which = f"byte {error.start + 1} is {content[error.start]:#04x}"
        else:
            which = f"a byte is {unread_byte(content):#04x}"
        return faults.found(where, f"{which}, which is not {encoding} here; {advice(name)}")


def _text_of(content: bytes, name: str, number: int, encoding: str, field: str, faults: BadRecords) -> str:
    """The text of a record; an empty one for a blank line or a bad record."""
    where = f"{name}, line {number}"
    line = _decoded(content, name, number, encoding, faults)
    if line is None or not line.strip():
        return ""
    try:
        record = parsed(line.removeprefix("\ufeff"))
    except ValueError as error:
        faults.found(where, f"is not JSON ({error})")
        return ""
    if not isinstance(record, dict):
        faults.found(where, f"is {type(record).__name__}, not an object with the field '{field}'")
    elif field not in record:
        names = ", ".join(map(repr, list(record)[:10])) or "none"
        faults.found(where, f"has no field '{field}' (--text-field), only {names}")
    elif not isinstance(record[field], str):
        faults.found(where, f"the field '{field}' is {type(record[field]).__name__}, not text")
    else:
        return record[field]
    return ""


@contextmanager
def _opened(name: str, start: Place, encoding: str) -> Iterator[IO[bytes]]:
    """The file, unpacked and in UTF-8, from a place on."""
    try:
        packed = name.endswith(".gz")
        file: Any = gzip.open(name, "rb") if packed else Path(name).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}); use a file you may read.") from None
    with file:
        if encoding != UTF8:
            yield _recoded(file, encoding, start.offset)
            return
        if start.offset:
            file.seek(start.offset)
        yield file


def _recoded(file: IO[bytes], encoding: str, offset: int) -> IO[bytes]:
    """A file in UTF-8, from an offset of that on: all before is decoded again, for its length is not known."""
    found = io.BufferedReader(Recoded(file, encoding), LINE_BYTES)
    while offset:
        offset -= len(found.read(min(offset, LINE_BYTES))) or offset  # the file has become shorter
    return found
