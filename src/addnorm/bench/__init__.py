"""This library and its peers side by side: one row of the table per file of `rows`, a registry.

`bench/rows/training_fp32.py` is `get("training-fp32")` and `addnorm bench training-fp32`.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from addnorm.bench.row import Row
from addnorm.errors import unknown


@cache
def names() -> tuple[str, ...]:
    """The names of all rows, in alphabetical order; imports none of them."""
    files = (Path(__file__).parent / "rows").glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


@cache
def get(name: str) -> type[Row]:
    """The dataclass of a row; its defaults are the size at which it is judged.

    Raises:
        UserError: no row has that name.
    """
    if name not in names():
        raise unknown("row", name, names())
    module = importlib.import_module(f"{__name__}.rows.{name.replace('-', '_')}")
    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Row) and item.__module__ == module.__name__
    ]
    assert len(own) == 1, f"{module.__name__} must define exactly one row, it defines {own}"
    return own[0]


def name_of(row: Row | type[Row]) -> str:
    """The name of a row: that of its file."""
    kind = row if isinstance(row, type) else type(row)
    return kind.__module__.rpartition(".")[2].replace("_", "-")


def in_order() -> list[str]:
    """The names of all rows in the order of the table."""
    return sorted(names(), key=lambda name: get(name).number)
