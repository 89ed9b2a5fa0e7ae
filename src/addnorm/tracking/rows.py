"""The rows of a metrics.jsonl that another process appends to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from addnorm.json_file import read_objects


class Rows:
    """What has come to a file of JSON lines since it was last asked.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0

    def new(self) -> list[dict[str, Any]]:
        """The rows that are whole; a line without its end is left for later."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self.at)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.at += len(whole)
        return [row for _, row in read_objects(whole)[0]]
