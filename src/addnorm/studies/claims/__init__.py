"""What papers claim, made executable: one claim per file, and the folder is the registry.

`claims/sinkhorn_is_approximate.py` is `get("sinkhorn-is-approximate")` and `addnorm reproduce sinkhorn-is-approximate`.
Its fields are the experiment's size: `parse("sinkhorn-is-approximate(seeds=3)")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from addnorm.registry import Registry

if TYPE_CHECKING:
    from addnorm.studies.claim import Claim

REGISTRY: Registry[Claim] = Registry(
    "claim",
    package=__name__,
    base="addnorm.studies.claim:Claim",
    catalogue="addnorm reproduce --list",
    group="addnorm.claims",
)
names, get, name_of, parse, format = (
    REGISTRY.names,
    REGISTRY.get,
    REGISTRY.name_of,
    REGISTRY.parse,
    REGISTRY.format,
)
