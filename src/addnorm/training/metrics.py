"""The rows of a run: append-only JSON lines, each with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

from addnorm.files import append_json_line, finite, write_atomically
from addnorm.json_file import read_objects

FILE = "metrics.jsonl"
SUM = "crc32"
"""The key under which a row carries the CRC-32 of its other fields; rows of older releases carry none."""


class Metrics:
    """metrics.jsonl of one run.

    Args:
        path: need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Append one row.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        append_json_line(self.path, _signed(row))

    def rows(self) -> list[dict[str, Any]]:
        """The rows that are as they were written."""
        return _checked(self._content())[0]

    def mark(self) -> dict[str, Any]:
        """What stands in the file now: a checkpoint keeps it, so that a loss is seen when the run goes on."""
        content = self._content()
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def rewind(self, step: int, mark: object = None) -> str:
        """Take out the rows that a resume at `step` will write again, and a torn last line.

        Returns:
            What had happened to the rows before `step`; nothing if they are as the checkpoint found them.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        content = self._content()
        rows, bad = _checked(content)
        kept = [row for row in rows if _stands(row, step)]
        fault = "" if step < 0 or _is_marked(content, mark) else _loss(bad, len(kept))
        write_atomically(self.path, "".join(json.dumps(finite(_signed(row)), allow_nan=False) + "\n" for row in kept))
        return fault

    def _content(self) -> bytes:
        """The whole file, nothing if it is missing; a device for a file is nothing to wait for."""
        return self.path.read_bytes() if self.path.is_file() else b""


def _signed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {SUM: _sum(row)}


def _sum(row: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(finite(row)).encode()):08x}"


def _checked(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows that are whole, without their checksums, and the numbers of the lines that are not."""
    found, bad = read_objects(content)
    signed = any(SUM in row for _, row in found)
    rows = []
    for number, row in found:
        expected = row.pop(SUM, None)
        sound = isinstance(row.get("event"), str) and isinstance(row.get("step"), int)
        if sound and (not signed or expected == _sum(row)):
            rows.append(row)
        else:
            bad.append(number)
    return rows, sorted(bad)


def _is_marked(content: bytes, mark: object) -> bool:
    """Whether the file begins with what a checkpoint found in it; older checkpoints say nothing."""
    if not isinstance(mark, dict) or not isinstance(mark.get("bytes"), int):
        return True
    return hashlib.sha256(content[: mark["bytes"]]).hexdigest() == mark.get("sha256")


def _loss(bad: list[int], kept: int) -> str:
    lines = f"line {', '.join(map(str, bad))} is damaged and left out" if bad else "rows are missing"
    return f"it is not what the checkpoint found in it ({lines}); going on with the {kept} rows that are whole."


def _stands(row: dict[str, Any], step: int) -> bool:
    """Whether a row was written before the checkpoint of `step`."""
    if row["event"] == "end":
        return False
    # Signals carry the number of updates before the step they were measured in; other rows, that after it.
    return row["step"] < step if row["event"] == "signal" else row["step"] <= step
