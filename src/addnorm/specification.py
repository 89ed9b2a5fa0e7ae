"""Texts of the form `name(field=value, other=value)`: how schemes and tasks are written on a command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

from addnorm.errors import UserError, unknown

MOST_PARENTHESES = 100
"""A scheme within a scheme is read by a function within a function."""


FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")
"""A name that is a class of a user's Python file: `./mine.py`, `./mine.py:Mine`."""
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def parts(kind: str, text: str) -> tuple[str, list[str]]:
    """The name, and what stands between the parentheses, split at the commas outside of further brackets and quotes.

    Raises:
        UserError: the parentheses do not match.

    >>> parts("scheme", "by-layer(first=mhc(streams=2), layers=3)")
    ('by-layer', ['first=mhc(streams=2)', 'layers=3'])
    """
    name, parenthesis, rest = text.strip().partition("(")
    if not parenthesis:
        return name.strip(), []
    if text.count("(") > MOST_PARENTHESES:
        raise UserError(
            f"{kind} '{text[:60]}...' has more than {MOST_PARENTHESES} parentheses; write name(field=value)."
        )
    given, matches = split(rest.strip()[:-1])
    if not rest.endswith(")") or not matches:
        raise UserError(f"{kind} '{text}': the parentheses do not match; write {name.strip()}(field=value).")
    return name.strip(), given


def files_in(text: str) -> tuple[str, ...]:
    """The Python files that reading a text would run, those of its values too, each once.

    >>> files_in("gpas(inner=./mine.py:Mine(alpha=0.3))")
    ('./mine.py',)
    """
    name, given = parts("text", text)
    file = FILE.fullmatch(name)
    values = [part.partition("=")[2] for part in given]
    return tuple(dict.fromkeys([*([file["path"]] if file else []), *(path for v in values for path in files_in(v))]))


def renamed(text: str, files: Mapping[str, str]) -> str:
    """The text with other paths of the Python files in it.

    >>> renamed("gpas(inner=./mine.py:Mine(alpha=0.3))", {"./mine.py": "../mine.py"})
    'gpas(inner=../mine.py:Mine(alpha=0.3))'
    """
    if not set(files_in(text)) & set(files):
        return text
    name, given = parts("text", text)
    file = FILE.fullmatch(name)
    if file is not None:
        path = files.get(file["path"], file["path"])
        name = path if file["name"] is None else f"{path}:{file['name']}"
    pairs = [part.partition("=") for part in given]
    values = ", ".join(f"{key}{equals}{renamed(value, files)}" for key, equals, value in pairs)
    return f"{name}({values})" if given else name


def named(kind: str, text: str, given: Iterable[str], allowed: Iterable[str]) -> dict[str, str]:
    """The texts of fields by name, from parts of the form `field=value`.

    Args:
        kind: what errors call it: scheme, task.
        text: the whole text, for errors.
        given: the parts.
        allowed: the fields there are.

    Raises:
        UserError: a part is no field=value, names no field, or names one twice.
    """
    allowed = list(allowed)
    values: dict[str, str] = {}
    for part in given:
        key, equals, right = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"{kind} '{text}': '{part}' is not field=value; fields: {', '.join(allowed)}.")
        if key not in allowed:
            raise unknown(f"field of {text.partition('(')[0].strip()}", key, allowed)
        if key in values:
            raise UserError(f"{kind} '{text}': '{key}' is given twice; give it once.")
        values[key] = right
    return values


def literal(text: str) -> Any:
    """A Python literal, or the text itself.

    >>> literal("3"), literal("rms")
    (3, 'rms')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two of brackets nested too deeply
        return text


def written(value: Any) -> str:
    """The text that `literal` reads back; in angle brackets what the value is where there is none.

    >>> written(0.3), written("rms"), written("3"), written((1, 2)), written(len)
    ('0.3', 'rms', "'3'", '(1, 2)', '<builtin_function_or_method>')
    """
    plain = isinstance(value, str) and literal(value) == value and re.fullmatch(r"[^\s()\[\]{},'\"<]+", value)
    text = value if plain else repr(value)
    if not isinstance(value, str):
        text = re.sub(r"(?<![\w'\"])inf\b", "1e999", text)  # which Python reads as infinity; else it is not read back
    return text if same(literal(text), value) else f"<{type(value).__name__}>"


def split(text: str) -> tuple[list[str], bool]:
    """The parts between commas that stand outside brackets and quotes, and whether all of these close."""
    found, closing, matches = [""], [], True
    quote, before, escaped = "", ",", False
    for letter in text:
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"" and before in "=,([{:":  # elsewhere it is an apostrophe
            quote = letter
        elif letter in _CLOSING:
            closing.append(_CLOSING[letter])
        elif letter in _CLOSING.values():
            matches = matches and closing[-1:] == [letter]
            closing = closing[:-1]
        if letter == "," and not closing and not quote:
            found.append("")
        else:
            found[-1] += letter
        before = before if letter.isspace() else letter
    return [part.strip() for part in found if part.strip()], matches and not closing and not quote


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; what cannot be compared is not."""
    try:
        return bool(one == other)
    except Exception:  # a tensor is equal in some of its elements
        return False
