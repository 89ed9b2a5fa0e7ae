"""What a command takes: the fields of its dataclasses as flags, and in words."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

ALIASES = {
    "batch_size": ("--bs",),
    "clip_norm": ("--grad-clip",),
    "context": ("--seq-len",),
    "d_model": ("--dim",),
    "accumulate": ("--grad-accum",),
    "layers": ("--depth",),
    "learning_rate": ("--lr",),
    "learning_rates": ("--lr",),
    "num_heads": ("--heads",),
    "num_layers": ("--depth",),
    "warm_up": ("--warmup",),
    "weight_decay": ("--wd",),
}
"""What the field of machine learning calls a flag for short."""
NOUNS = {int: "whole number", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One field of a command's dataclasses as the command line knows it."""

    name: str
    owner: type
    type: Any
    """Without None."""
    default: Any
    text: str
    group: str
    """The heading that it stands under in the help."""
    optional: bool = False
    """Whether None is allowed."""
    positional: str = ""
    """What it is called where it is given by its place: `RUN`."""
    repeatable: bool = False
    """Whether a list may come in parts: `--track a --track b`."""

    @property
    def flag(self) -> str:
        """As typed: `--num-heads`."""
        return self.positional or f"--{self.name.replace('_', '-')}"

    @property
    def aliases(self) -> tuple[str, ...]:
        """Shorter ways to type it: `--lr`."""
        return () if self.positional else ALIASES.get(self.name, ())

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value: `--bias`, `--no-bias`."""
        return self.type is bool

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.type) is tuple

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    def expects(self) -> str:
        """What it takes, in words: `a whole number or none`."""
        item = get_args(self.type)[0] if self.is_list else self.type
        if get_origin(item) is Literal:
            words = " or ".join(get_args(item))
        elif item is bool:
            words = "true or false"
        else:
            words = f"one or more {NOUNS[item]}s" if self.is_list else f"a {NOUNS[item]}"
        return f"{words} or none" if self.optional else words


@cache
def flags_of(*owners: type) -> dict[str, Flag]:
    """The flags of a command by field name: a dataclass's own fields, then those of its bases, the nearest first."""
    return {
        field.name: _flag(owner, field)
        for owner in owners
        for field in sorted(fields(owner), key=lambda field: owner.__mro__.index(_origin(owner, field.name)))
    }


def _origin(owner: type, name: str) -> type:
    """The base that a field comes from, be its default another one here."""
    return next(base for base in reversed(owner.__mro__) if name in inspect.get_annotations(base))


def _heading(owner: type) -> str:
    """What a dataclass says of itself, up to the first pause."""
    return re.split(r"[.:]", inspect.getdoc(owner) or "")[0]


def _flag(owner: type, field: Field[Any]) -> Flag:
    kind, optional = _without_none(_hints(owner)[field.name])
    place = field.metadata.get("positional", "")
    return Flag(
        name=field.name,
        owner=owner,
        type=kind,
        default=field.default,
        text=_texts(owner).get(field.name, ""),
        optional=optional,
        group="Arguments" if place else _heading(_origin(owner, field.name)),
        positional=place,
        repeatable=field.metadata.get("repeatable", False),
    )


@cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was in it."""
    if get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind):
        (only,) = (part for part in get_args(kind) if part is not NoneType)
        return only, True
    return kind, False


@cache
def _texts(owner: type) -> dict[str, str]:
    """The strings below the fields of a dataclass and of its bases."""
    texts: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        texts |= _texts_of_module(base.__module__).get(base.__name__, {})
    return texts


@cache
def _texts_of_module(name: str) -> dict[str, dict[str, str]]:
    """By class, by field: `ast` on the whole file, because finding each class's source takes ten times as long."""
    file = getattr(sys.modules[name], "__file__", None)
    if file is None:
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: _texts_of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _texts_of_class(node: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: " ".join(inspect.cleandoc(text.value.value).split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def in_words(value: Any) -> str:
    """A value as one would type it.

    >>> in_words((2, 24)), in_words(0.002), in_words(None)
    ('2 24', '0.002', 'none')
    """
    if isinstance(value, tuple):
        return " ".join(map(in_words, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
