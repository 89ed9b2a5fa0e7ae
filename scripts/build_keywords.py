"""Write src/addnorm/keywords.py: fields of the dataclasses of choices as keywords that editors and checkers know."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

from addnorm.config import ModelConfig, RunConfig
from addnorm.models.video import VideoConfig
from addnorm.studies.spec import CompareConfig

HOME = Path(__file__).parent.parent / "src" / "addnorm" / "keywords.py"
KINDS = {"Model": ModelConfig, "Video": VideoConfig, "Run": RunConfig, "Compare": CompareConfig}
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
    hints = typing.get_type_hints(kind)
    lines = [f"    {item.name}: {_written(hints[item.name])}" for item in fields(kind) if item.init]
    title = f'    """Those of `{kind.__module__}.{kind.__name__}`."""'
    return "\n".join([f"class {name}Keywords(TypedDict, total=False):", title, "", *lines, ""])


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
