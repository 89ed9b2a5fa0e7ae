"""Consent to run code: a stored file may name a Python file, and only the caller has it run.

A run's folder, a comparison's folder and a config are data, and travel. Their `task` and their schemes may name Python
files; these are imported only where the call at hand names them itself.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from addnorm.errors import UserError
from addnorm.specification import files_in, parts


def code_of(task: object) -> str | None:
    """The Python file that a specification names; None for one of the catalogue.

    >>> code_of("my_task.py(digits=4)"), code_of("translation")
    ('my_task.py', None)
    """
    return next(iter(files_in(task)), None) if isinstance(task, str) else None


def refuse_code(stored: object, source: Path | str, flag: str = "--task") -> None:
    """Refuse a stored task or scheme that would run a file which the caller has not named.

    Args:
        stored: the specification that was stored.
        source: where.
        flag: by which the caller would name it.

    Raises:
        UserError: it names a Python file; says which, and how to consent.
    """
    file = code_of(stored)
    if file is not None:
        raise UserError(
            f"{source} asks to run the code in {file}, and what is stored runs no code by itself; "
            f"read that file, and if you trust it, add {flag} {shlex.quote(str(stored))}"
        )


def consented(stored: str, named: str | None, source: Path | str) -> str:
    """The task of a stored run, with the code file that the caller names.

    Args:
        stored: the specification that was stored.
        named: what the caller named: a Python file, with or without fields; None is no consent.
        source: where the specification was stored.

    Returns:
        The stored specification, its file replaced by the caller's: the folder decides on no path.

    Raises:
        UserError: the run asks for code and none is named, or the other way round.
    """
    file = code_of(stored)
    if named is None:
        refuse_code(stored, source)
        return stored
    if file is None or code_of(named) is None:
        raise UserError(f"task={named} came, but {source} is a run of {stored}; leave --task out, or name its file.")
    _, fields = parts("task", stored)
    name = str(code_of(named))
    return f"{name}({', '.join(fields)})" if fields else name
