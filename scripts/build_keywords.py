"""Write src/addnorm/keywords.py: fields of the dataclasses of choices as keywords that editors and checkers know."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

from addnorm.config import LayerShape, ModelConfig, Recipe, RunConfig
from addnorm.models.video import VideoConfig
from addnorm.studies.spec import CompareConfig

HOME = Path(__file__).parent.parent / "src" / "addnorm" / "keywords.py"
KINDS = {
    "LayerShape": LayerShape,
    "Model": ModelConfig,
    "Video": VideoConfig,
    "Recipe": Recipe,
    "Run": RunConfig,
    "Compare": CompareConfig,
}
HEAD = '''"""The fields of the dataclasses of choices, as keywords; written by scripts/build_keywords.py.

A dataclass tells a checker what its own constructor takes, not what a function takes that hands keywords on to it.
"""

from __future__ import annotations

from typing import Literal, TypedDict
'''


def source() -> str:
    """The whole file."""
    return "\n\n".join([HEAD, *(_keywords(name, kind) for name, kind in KINDS.items())])


def _keywords(name: str, kind: type) -> str:
    """A class; what it shares with one before it, it has from there."""
    hints = typing.get_type_hints(kind)
    base, taken = _base(kind, hints)
    lines = [
        f"    {item.name}: {_written(hints[item.name])}"
        for item in fields(kind)
        if item.init and item.name not in taken
    ]
    title = f'    """Those of `{kind.__module__}.{kind.__name__}`."""'
    return "\n".join([f"class {name}Keywords({base}, total=False):", title, "", *lines, ""])


def _base(kind: type, hints: dict[str, Any]) -> tuple[str, set[str]]:
    """The class before it with the most fields, all of which it has with the same types."""
    found = ("TypedDict", set[str]())
    for name, other in KINDS.items():
        own = typing.get_type_hints(other)
        shared = {item.name for item in fields(other) if item.init}
        same = issubclass(kind, other) and kind is not other and all(hints[one] == own[one] for one in shared)
        found = (f"{name}Keywords", shared) if same and len(shared) > len(found[1]) else found
    return found


def _written(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(_quoted, inner))}]"
    if origin in (types.UnionType, typing.Union):
        return " | ".join(map(_written, inner))
    if origin is tuple:
        return f"tuple[{', '.join('...' if each is ... else _written(each) for each in inner)}]"
    return "None" if hint is type(None) else hint.__name__


def _quoted(word: str) -> str:
    return f'"{word}"'


if __name__ == "__main__":
    HOME.write_text(source())
