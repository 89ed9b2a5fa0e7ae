"""The defaults of a command that depend on the task it was given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from addnorm.cli.invoke import Complete
from addnorm.config import INIT_RULES

SCORE_ITEMS = 200
"""Validation items that the runs of a comparison are scored on, where the loss is not the metric itself."""


def of_task(kind: Literal["defaults", "comparison"]) -> Complete:
    """Adds what the task of the values has as defaults, and for a training scheme and shape of what it starts from.

    A token store brings its tokenizer. Without a task and a start nothing is added, and torch is not imported for it.
    """

    def complete(values: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: value for name, value in values.items() if value is not None or name != "segments"}
        merged, training = dict(values), {}
        if "task" in values:
            from addnorm import tasks
            from addnorm.specification import parts

            task = tasks.get(parts("task", values["task"])[0])
            training = task.defaults
            own = training if kind == "defaults" else {**_for_a_comparison(training), **task.comparison}
            merged = tasks.with_defaults(values, own)
        merged |= _of_store(merged)
        init = merged.get("init", INIT_RULES[0])
        if init in INIT_RULES:
            return merged
        if kind == "comparison":
            from addnorm.studies import pretrained

            return pretrained.completed(values, merged, training)
        from addnorm.interop.start import completed

        return {**merged, **completed(values, init)}

    return complete


def _for_a_comparison(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a comparison takes over from a task's training: data and shape; its start and its budget are its own."""
    from addnorm.studies.spec import CompareConfig
    from addnorm.tasks import BUDGETS

    own = {field.name for field in fields(CompareConfig)} - {"init", *BUDGETS}
    return {"score_items": SCORE_ITEMS, **{name: value for name, value in defaults.items() if name in own}}


def _of_store(values: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer of a token store, unless one was given."""
    data = values.get("data")
    if not data or "tokenizer" in values or not os.path.isfile(os.path.join(os.path.expanduser(data), "index.json")):
        return {}
    from addnorm.data.tokens.token_store import is_store, tokenizer_of

    return {"tokenizer": tokenizer_of(data)} if is_store(data) else {}
