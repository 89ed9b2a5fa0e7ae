"""Texts of the form `name(field=value, other=value)`: how schemes and tasks are written on a command line."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from addnorm.errors import UserError, unknown

MOST_PARENTHESES = 100
"""A scheme within a scheme is read by a function within a function."""


def parts(kind: str, text: str) -> tuple[str, list[str]]:
    """The name, and what stands between the parentheses, split at the commas outside of further parentheses.

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
    if text.count("(") != text.count(")") or not text.strip().endswith(")"):
        raise UserError(f"{kind} '{text}': the parentheses do not match; write {name.strip()}(field=value).")
    return name.strip(), _split(rest.strip()[:-1])


def named(
    kind: str, text: str, given: Iterable[str], allowed: Iterable[str], value: Callable[[str], Any]
) -> Mapping[str, Any]:
    """Fields by name, from parts of the form `field=value`.

    Args:
        kind: what errors call it: scheme, task.
        text: the whole text, for errors.
        given: the parts.
        allowed: the fields there are.
        value: reads a value.

    Raises:
        UserError: a part is no field=value, names no field, or names one twice.
    """
    allowed = list(allowed)
    values: dict[str, Any] = {}
    for part in given:
        key, equals, right = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"{kind} '{text}': '{part}' is not field=value; fields: {', '.join(allowed)}.")
        if key not in allowed:
            raise unknown(f"field of {text.partition('(')[0].strip()}", key, allowed)
        if key in values:
            raise UserError(f"{kind} '{text}': '{key}' is given twice; give it once.")
        values[key] = value(right)
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


def _split(text: str) -> list[str]:
    """Parts between the commas that stand outside parentheses."""
    found, level = [""], 0
    for letter in text:
        level += (letter == "(") - (letter == ")")
        if letter == "," and level == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found if part.strip()]
