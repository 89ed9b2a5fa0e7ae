"""Consent to run code: a stored file may name a Python file, and only the caller has it run.

A run's folder, a comparison's folder and a config are data, and travel. Their `task` and their schemes may name Python
files; these are imported only where the call at hand names them itself, and where a model is read of a run only if they
are what it was trained by: the run holds the SHA-256 of each.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from addnorm.errors import UserError
from addnorm.files import sha256
from addnorm.specification import files_in, renamed

Code = Mapping[str, str]
"""The SHA-256 of Python files, by the paths under which specifications name them."""
_NAMED: ContextVar[tuple[str, ...]] = ContextVar("files that the caller has named", default=())


def code_of(*specifications: object) -> dict[str, str]:
    """The Python files that specifications name, and what they are now; none of the catalogue's is among them.

    Raises:
        UserError: one cannot be read.
    """
    texts = [text for text in specifications if isinstance(text, str)]
    return {file: _identity(file) for text in texts for file in files_in(text)}


def check_unchanged(code: Code, source: Path | str) -> None:
    """Refuse files that are not what they were.

    Args:
        code: what they were.
        source: what was begun with them.

    Raises:
        UserError: one has changed or is gone.
    """
    for file, identity in code.items():
        if _identity(file) != identity:
            raise _changed(file, source)


def refuse_code(stored: Iterable[str], source: Path | str, flag: str, named: Iterable[str] = ()) -> None:
    """Refuse stored tasks or schemes that would run a file which the caller has not named.

    Args:
        stored: the specifications that were stored.
        source: where.
        flag: by which the caller would name them.
        named: the files that the caller has named.

    Raises:
        UserError: one names another Python file; says which, and how to consent.
    """
    stored = list(stored)
    for file in (file for text in stored for file in files_in(text) if file not in named):
        raise UserError(
            f"{source} asks to run the code in {file}, and what is stored runs no code by itself; "
            f"read that file, and if you trust it, add {flag} {shlex.quote(','.join(stored))}"
        )


@contextmanager
def trusting(*specifications: str) -> Iterator[None]:
    """Within it a run that is started from may be of the Python files which the caller has named in these texts."""
    files = tuple(file for text in specifications for file in files_in(text))
    before = _NAMED.set(_NAMED.get() + files)
    try:
        yield
    finally:
        _NAMED.reset(before)


def consented(
    stored: str, named: str | None, source: Path | str, flag: str = "--task", code: Code | None = None
) -> str:
    """The task or the scheme of a stored run, with the code files that the caller names.

    Args:
        stored: the specification that was stored.
        named: what the caller named: a Python file, with or without fields; None is no more than `trusting` says.
        source: where the specification was stored.
        flag: by which the caller names it.
        code: what the files were; where it says nothing of one, the caller's is taken as it is.

    Returns:
        The stored specification, its files replaced by the caller's: the folder decides on no path.

    Raises:
        UserError: the run asks for code and none is named, or the other way round; a file is not what it was.
    """
    asked, files = files_in(stored), files_in(named or "")
    if named is not None and not (asked and files):
        raise UserError(
            f"{flag[2:]}={named} came, but {source} is a run of {stored}; leave {flag} out, or name its file."
        )
    if named is None and code:
        files = tuple(file for file in _NAMED.get() if file in asked or _identity(file) in code.values())
    if not files:
        refuse_code([stored], source, flag)
    return renamed(stored, {file: _found(file, files, source, (code or {}).get(file)) for file in asked})


def _found(stored: str, files: tuple[str, ...], source: Path | str, identity: str | None) -> str:
    """The caller's file that is the stored one."""
    for file in sorted(files, key=lambda file: file != stored):  # the path it had, where that is among them
        if identity is None or identity == _identity(file):
            return file
    raise _changed(stored if stored in files else files[0], source)


def _identity(file: str) -> str:
    try:
        return sha256(Path(file).expanduser())
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); name a Python file that is there.") from None


def _changed(file: str, source: Path | str) -> UserError:
    return UserError(f"{file} is not what {source} was made with: it has changed; put it back, or train anew.")
