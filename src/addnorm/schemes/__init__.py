"""The catalogue: one scheme per file, and the folder is the registry.

`schemes/deep_norm.py` is `get("deep-norm")`, `--scheme deep-norm` and the name in a stored config.
A specification is a name with optional fields: `mhc`, `layer-scale(init=0.1)`, `peri-norm(norm=rms)`. A scheme of your
own: `./mine.py`, `./mine.py:Mine(alpha=0.3)`, or an entry point of the group `addnorm.schemes` in a package.

>>> get("pre-norm")()
PreNorm()
>>> format(parse("pre-norm(norm=rms)"))
'pre-norm(norm=rms)'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from addnorm.registry import SCHEMES, Registry

if TYPE_CHECKING:
    from addnorm.residual import Scheme

REGISTRY: Registry[Scheme] = SCHEMES
names, get, name_of, parse, format = (
    REGISTRY.names,
    REGISTRY.get,
    REGISTRY.name_of,
    REGISTRY.parse,
    REGISTRY.format,
)


def __getattr__(name: str) -> Any:
    """What a scheme around another one derives from, loaded when it is asked for: it imports torch."""
    if name in ("Around", "AroundConnection", "AroundConnections", "Composed"):
        return getattr(importlib.import_module(f"{__name__}._around"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
