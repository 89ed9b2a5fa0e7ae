"""The command that repeats a comparison."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from addnorm.studies.spec import CompareConfig


def reproduce(results: dict[str, Any]) -> str:
    """`addnorm compare` with the flags that differ from its defaults.

    >>> reproduce({"spec": {"seeds": 8, "learning_rates": [0.001, 0.002], "baseline": "pre-norm"}})
    'addnorm compare --learning-rates 0.001 0.002 --seeds 8'
    """
    spec = results.get("spec") or {}
    flags = [
        part
        for field in fields(CompareConfig)
        if field.name in spec and _plain(spec[field.name]) != _plain(field.default)
        for part in _flag(field.name, spec[field.name])
    ]
    return " ".join(["addnorm compare", *flags])


def _flag(name: str, value: Any) -> list[str]:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [f"--{dashed}", *(shlex.quote(str(item)) for item in values)]


def _plain(value: Any) -> Any:
    """Lists for tuples, as JSON gives them back."""
    return list(value) if isinstance(value, (list, tuple)) else value
