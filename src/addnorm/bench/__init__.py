"""This library and its peers side by side: one row of the table per file of `rows`, a registry.

`bench/rows/training_fp32.py` is `get("training-fp32")` and `addnorm bench training-fp32`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from addnorm.registry import Registry

if TYPE_CHECKING:
    from addnorm.bench.row import Row

REGISTRY: Registry[Row] = Registry(
    "row",
    package="addnorm.bench.rows",
    base="addnorm.bench.row:Row",
    catalogue="addnorm bench --list",
    group="addnorm.rows",
)
names, get, name_of, parse = REGISTRY.names, REGISTRY.get, REGISTRY.name_of, REGISTRY.parse
