"""What papers claim, made executable: one claim per file, and the folder is the registry.

`claims/sinkhorn_is_approximate.py` is `get("sinkhorn-is-approximate")` and `addnorm reproduce sinkhorn-is-approximate`.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from addnorm.errors import unknown
from addnorm.studies.claim import Claim


@cache
def names() -> tuple[str, ...]:
    """The names of all claims, in alphabetical order; imports none of them."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


@cache
def get(name: str) -> type[Claim]:
    """The dataclass of a claim; its defaults are the size at which the claim is judged.

    Raises:
        UserError: no claim has that name.
    """
    if name not in names():
        raise unknown("claim", name, names())
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Claim) and item.__module__ == module.__name__
    ]
    assert len(own) == 1, f"{module.__name__} must define exactly one claim, it defines {own}"
    return own[0]


def name_of(claim: Claim) -> str:
    """The name of a claim: that of its file."""
    return type(claim).__module__.rpartition(".")[2].replace("_", "-")
