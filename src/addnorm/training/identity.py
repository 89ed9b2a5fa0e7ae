"""What makes two runs the same experiment: the config, the data, the weights that they start from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from types import MappingProxyType

from addnorm.config import RunConfig
from addnorm.consent import Code
from addnorm.specification import renamed

FREE = ("memory", "track")
"""Fields that change no result: a resumed run may have others."""


def fingerprint(config: RunConfig, data: str, start: str = "", code: Code = MappingProxyType({})) -> str:
    """SHA-256 of the config, of the data's fingerprint, and of that of the weights that a run starts from, if any.

    It is equal exactly when two runs are the same experiment; how much they remember on the way changes no result, nor
    where a Python file of theirs lies (`code`: what it holds).
    """
    config = replace(config, task=renamed(config.task, code), scheme=renamed(config.scheme, code))
    values = {name: value for name, value in asdict(config).items() if name not in FREE}
    text = json.dumps([values, data, *([start] if start else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """The fields that changed, as `field: old -> new`.

    >>> differences(RunConfig(seed=1), RunConfig(seed=2))
    ['seed: 1 -> 2']
    """
    before, after = asdict(old), asdict(new)
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name in before
        if before[name] != after[name] and name not in FREE
    ]
