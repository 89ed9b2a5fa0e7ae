"""Files that systems leave beside a user's own: ._notes.txt, .DS_Store, __MACOSX; nobody means them as data."""

from __future__ import annotations

from pathlib import Path


def is_hidden(path: Path) -> bool:
    """Whether a file browser would not show it."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def shown_files(folder: Path) -> list[Path]:
    """The files in a folder and below, sorted, but hidden ones and those in hidden folders."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden_below(path, folder))


def shown_here(folder: Path) -> list[Path]:
    """What stands in a folder itself, sorted, but what is hidden."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path))


def _is_hidden_below(path: Path, folder: Path) -> bool:
    return any(is_hidden(Path(part)) for part in path.relative_to(folder).parts)
