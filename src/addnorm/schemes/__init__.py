"""The catalogue: one scheme per file, and the folder is the registry.

`schemes/deep_norm.py` is `get("deep-norm")`, `--scheme deep-norm` and the name in a stored config.
A specification is a name with optional fields: `mhc`, `layer-scale(init=0.1)`, `peri-norm(norm=rms)`.
"""

from __future__ import annotations

import importlib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from addnorm.errors import UserError, unknown
from addnorm.residual import Scheme
from addnorm.specification import literal, named, parts


@cache
def names() -> tuple[str, ...]:
    """The names of all schemes, in alphabetical order."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


@cache
def get(name: str) -> type[Scheme]:
    """The dataclass of a scheme; its defaults are the paper's.

    Raises:
        UserError: no scheme has that name.

    >>> get("pre-norm")()
    PreNorm(norm='layer', ...)
    """
    if name not in names():
        raise unknown("scheme", name, names())
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Scheme) and item.__module__ == module.__name__
    ]
    assert len(own) == 1, f"{module.__name__} must define exactly one scheme, it defines {own}"
    return own[0]


def name_of(scheme: Scheme) -> str:
    """The catalogue name of a scheme: the name of its file.

    >>> name_of(get("pre-norm")())
    'pre-norm'
    """
    return type(scheme).__module__.rpartition(".")[2].replace("_", "-")


def parse(specification: str) -> Scheme:
    """A scheme from its text: a name, or a name with fields in parentheses.

    Raises:
        UserError: the name, a field or a value is not allowed.

    >>> parse("pre-norm(norm=rms)")
    PreNorm(norm='rms', ...)
    """
    text = specification.strip()
    name, given = parts("scheme", text)
    scheme = get(name)
    allowed = [field.name for field in fields(scheme) if field.init]
    values = named("scheme", text, given, allowed, _value)
    try:
        return scheme(**values)
    except TypeError as error:
        raise UserError(f"scheme '{text}': {error}.") from error


def format(scheme: Scheme) -> str:
    """The text that `parse` reads back: the name and the fields that differ from the defaults.

    >>> format(parse("pre-norm(norm=rms)"))
    'pre-norm(norm=rms)'
    """
    changed = [
        (field.name, getattr(scheme, field.name))
        for field in fields(scheme)
        if field.init and getattr(scheme, field.name) != field.default
    ]
    text = ", ".join(f"{key}={format(item) if isinstance(item, Scheme) else item}" for key, item in changed)
    return f"{name_of(scheme)}({text})" if changed else name_of(scheme)


def _value(text: str) -> Any:
    """A Python literal, a nested scheme, or the text itself."""
    if text.partition("(")[0] in names():
        return parse(text)
    return literal(text)
