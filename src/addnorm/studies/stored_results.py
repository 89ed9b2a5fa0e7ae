"""The results of a comparison's folder, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from addnorm.consent import check_unchanged, code_of, refuse_code, trusting
from addnorm.errors import UserError
from addnorm.json_file import read_object
from addnorm.specification import files_in
from addnorm.studies.spec import compare_config

RESULTS, SPEC, CONFIG = "results.json", "spec.json", "config.json"


def stored_results(folder: Path, *, schemes: Sequence[str] = (), task: str | None = None) -> dict[str, Any]:
    """What `results.json` holds, or would hold of the runs that have ended.

    Args:
        folder: of a comparison.
        schemes, task: Python files that the caller trusts, where the comparison has schemes or a task of its own and
            has not ended.

    Raises:
        UserError: the folder holds no comparison, or what it holds is damaged; it asks for code that is not named, or
            that is not what it was.
    """
    for name in (RESULTS, SPEC):
        if (folder / name).is_file():
            stored = _read(folder / name)
            if name == RESULTS and "arms" not in stored:
                raise UserError(f"{folder / name} holds no comparison; name a folder that `addnorm compare` wrote.")
            return stored if name == RESULTS else _so_far(folder, stored, schemes, task)
    raise UserError(f"{folder} {_instead(folder)}")


def _so_far(folder: Path, stored: dict[str, Any], schemes: Sequence[str], task: str | None) -> dict[str, Any]:
    named = [*schemes, *([task] if task else [])]
    files = [file for text in named for file in files_in(text)]
    refuse_code(stored.get("schemes") or (), folder, "--schemes", files)
    refuse_code([stored["task"]] if "task" in stored else (), folder, "--task", files)
    with trusting(*named):
        spec = compare_config(stored)
        from addnorm.studies.compare import so_far
        from addnorm.studies.store import CODE, Store

        check_unchanged(_read(folder / CODE) if (folder / CODE).is_file() else {}, folder)
        store = Store(folder)
        store.code = code_of(spec.task, *spec.schemes)
        return so_far(spec, store)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable ({error}); `addnorm compare --resume` writes it again.") from error


def _instead(folder: Path) -> str:
    """What a folder is that holds no comparison, and what to do."""
    if not folder.is_dir():
        return "is no folder here; `addnorm runs` lists what was trained."
    if (folder / CONFIG).is_file():
        return (
            "is one training run, which has nothing to be held against; name several: addnorm compare --runs A B; "
            "or see it: addnorm runs show."
        )
    return "holds no comparison; name a folder that `addnorm compare` wrote."
