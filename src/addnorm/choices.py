"""How a dataclass of choices shows itself: in a line, and in the signature of what takes its fields as keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def chosen(choices: Any, *always: str) -> list[str]:
    """`name=value` of each field of a dataclass that is not at its default, and of those named.

    >>> from addnorm.config import ModelConfig
    >>> chosen(ModelConfig(vocab_size=9, d_model=32), "num_layers")
    ['d_model=32', 'num_layers=4', 'vocab_size=9']
    """
    return [
        f"{item.name}={getattr(choices, item.name)!r}"
        for item in fields(choices)
        if item.init and (item.name in always or getattr(choices, item.name) != _default(item))
    ]


def takes_fields_of(kind: type, needed: Collection[str] = ()) -> Callable[[F], F]:
    """Mark a function whose `**keywords` are the fields of a dataclass: `help` and tab completion then show them.

    Args:
        kind: the dataclass.
        needed: fields that the function has no default for, though the dataclass has one.
    """

    def mark(function: F) -> F:
        own = inspect.signature(function)
        shown = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        for item in fields(kind):
            default = inspect.Parameter.empty if item.name in needed else _default(item)
            default = inspect.Parameter.empty if default is MISSING else default
            if item.init:
                shown.append(
                    inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=item.type)
                )
        function.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
        return function

    return mark


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()
