"""What the files of a folder were when they were written: one list of their SHA-256, checked before they are read.

    manifest.json   {"files": {"config.json": "<64 digits>", ...}, "sha256": "<of the list itself>"}

An entry is written before its file: a crash in between leaves an entry without a file, never a file that nothing
speaks for. Folders from before there was this list are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from addnorm.files import sha256, write_json
from addnorm.json_file import read_object

FILE = "manifest.json"


class DamageWarning(UserWarning):
    """A file of a run is not what was written, and the run can do without it."""


class Manifest:
    """The list of one folder.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def entries(self) -> dict[str, str]:
        """SHA-256 by file name; empty where there is no list.

        Raises:
            ValueError: the list itself is damaged.
        """
        try:
            found = read_object(self.path)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ValueError(f"it cannot be read: {error}") from error
        files = found.get("files")
        if not isinstance(files, dict) or found.get("sha256") != _digest(files):
            raise ValueError("it has another SHA-256 than when it was written")
        return files

    def note(self, digests: Mapping[str, str]) -> None:
        """Write down what files are about to be, or are.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        try:
            files = self.entries()
        except ValueError:  # its reader has said so
            files = {}
        files |= digests
        write_json(self.path, {"files": files, "sha256": _digest(files)})

    def note_files(self, names: set[str]) -> None:
        """Write down what files are now."""
        self.note({name: sha256(self.path.parent / name) for name in sorted(names)})

    def faults(self) -> dict[str, str]:
        """What is wrong, by file; with the list itself damaged nothing else can be said.

        A file that was never finished is none of them: result.json of a run that was killed while it was written.
        """
        try:
            entries = self.entries()
        except ValueError as error:
            return {FILE: str(error)}
        found = {name: fault(self.path.parent / name, digest) for name, digest in entries.items()}
        return {name: text for name, text in found.items() if text is not None}


def fault(path: Path, digest: str) -> str | None:
    """What is wrong with a file that had a SHA-256 when it was written; None if nothing is."""
    try:
        return None if sha256(path) == digest else "it has another SHA-256 than when it was written"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


def listed(faults: Mapping[str, str]) -> str:
    """The faults in a row of words.

    >>> listed({"config.json": "it is missing"})
    'config.json: it is missing'
    """
    return "; ".join(f"{name}: {text}" for name, text in faults.items())


def _digest(files: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
