"""Every way to stop short as one line on standard error and an exit code.

0  done                        2  a mistake in what was asked, or a machine that cannot do it
1  a bug in addnorm            3  `addnorm train`: the run diverged
141  nobody reads the output   4  `addnorm compare`: some runs failed; the others are compared
5  `addnorm certify`: a finding fails
130, 143  stopped by Ctrl-C, by SIGTERM: what was trained is saved
"""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress

from addnorm.errors import UserError

DONE, BUG, MISTAKE, DIVERGED, FAILED, UNSOUND, INTERRUPTED, UNREAD = 0, 1, 2, 3, 4, 5, 130, 141

# How torch and numpy say, in a RuntimeError, TypeError or ValueError, that memory ran out or that a size is absurd.
_TOO_LARGE = re.compile(
    r"can't allocate memory|not enough memory|Unable to allocate|calculation overflowed|Overflow when unpacking"
    r"|Maximum allowed dimension|array is too big|int too (large|big) to convert"
)
_SHORT = 160
# Control signs, and those that turn the direction of the text around them.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def report(error: BaseException) -> int:
    """Say in one line what stopped the command.

    Returns:
        The exit code.
    """
    if isinstance(error, BrokenPipeError):
        return _unread()
    if isinstance(error, KeyboardInterrupt):
        return _say("interrupted.", getattr(error, "exit_code", INTERRUPTED), label="")
    if isinstance(error, UserError):
        return _say(str(error), MISTAKE)
    if isinstance(error, OSError):
        return _say(_of_system(error), MISTAKE)
    if type(error).__name__ == "PanicException":  # of a library in Rust; it is no Exception
        return _say(f"a library gave up on what it was given ({_shortened(error)}); the file is damaged.", MISTAKE)
    if isinstance(error, (MemoryError, OverflowError)) or _TOO_LARGE.search(str(error)):
        return _say(_of_size(error), MISTAKE)
    code, folder = getattr(error, "exit_code", None), getattr(error, "folder", None)
    if isinstance(code, int):  # training.interruption.Interrupted, told by its fields: importing it would load training
        return _say(f"{error} Add to the same command: --resume --out {folder}", code, label="")
    return _bug(error)


def harmless(text: str) -> str:
    r"""The text with the signs that a terminal would obey written out; line breaks and tabs stay.

    >>> print(harmless("a\x1b]0;b\x07"))
    a\x1b]0;b\x07
    """
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""The text without line breaks and without signs that a terminal would obey.

    >>> print(one_line("a\n   b \x1b[31m"))
    a b \x1b[31m
    """
    plain = "".join(letter if letter.isprintable() or letter.isspace() else ascii(letter)[1:-1] for letter in text)
    return " ".join(plain.split())


def _say(text: str, code: int, label: str = "error: ") -> int:
    # A closed standard error is no reason for a traceback.
    with suppress(OSError, ValueError):
        print(f"addnorm: {label}{one_line(text)}", file=sys.stderr, flush=True)
    return code


def _of_size(error: BaseException) -> str:
    said = _shortened(error)
    return f"a number is too large for this machine ({said}); use a smaller width, depth, batch, context or seed."


def _shortened(error: BaseException) -> str:
    said = one_line(str(error)) or type(error).__name__
    return said if len(said) <= _SHORT else f"{said[:_SHORT]}..."


def _of_system(error: OSError) -> str:
    what = f"{error.strerror or error}".rstrip(".")
    where = f" {error.filename}" if error.filename is not None else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where and f' (writing{where})'}; nothing finished is lost: free space, then --resume."
    return f"the system refused{where}: {what}; check that it exists and that you may read and write it."


def _unread() -> int:
    """Nobody reads standard output: leave quietly, and keep Python from flushing into the closed pipe at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _bug(error: BaseException) -> int:
    """One line, and the traceback in a file."""
    import tempfile  # not at the top: 20 ms of every start
    import traceback

    trace = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="addnorm-bug-", suffix=".txt", delete=False) as file:
            file.write(trace)
        where = f"the traceback is in {file.name}"
    except OSError:
        where = "run it again with --debug for the traceback"
    return _say(f"this is a bug in addnorm: {type(error).__name__}: {error}; {where}.", BUG)
