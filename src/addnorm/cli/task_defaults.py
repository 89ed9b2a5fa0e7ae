"""The defaults of a command that depend on the task it was given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from addnorm.cli.flags import in_words
from addnorm.cli.invoke import Complete
from addnorm.config import INIT_RULES, RunConfig
from addnorm.errors import UserError

SCORE_ITEMS = 200
"""Validation items that the runs of a comparison are scored on, where the loss is not the metric itself."""


def of_task(kind: Literal["defaults", "comparison"]) -> Complete:
    """Adds what the task of the values has as defaults, and for a training scheme and shape of what it starts from.

    A token store brings its tokenizer, and epochs become steps. Without a task, a start and epochs nothing is added,
    and torch is not imported for it.
    """

    def complete(values: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        found = started(values)
        epochs = options.get("epochs")
        return found if epochs is None else _in_steps(epochs, values, found, kind)

    def started(values: Mapping[str, Any]) -> dict[str, Any]:
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


def _in_steps(epochs: float, given: Mapping[str, Any], values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The values with as many steps as so many passes over the training data take, and with no other budget.

    Raises:
        UserError: another budget was given, or the task does not say how many examples it has.
    """
    from addnorm import tasks
    from addnorm.studies.spec import CompareConfig, runs

    kept = {name: value for name, value in values.items() if name not in tasks.BUDGETS}
    config = RunConfig(**kept) if kind == "defaults" else runs(CompareConfig(**kept))[0].config
    per_epoch = tasks.prepare(config).steps_per_epoch
    if per_epoch is None:
        raise UserError(f"task '{config.task}' does not say how many steps an epoch has; give --steps.")
    count = max(1, round(epochs * per_epoch))
    steps = count if kind == "defaults" else (count,)
    came = given.get("steps")
    # A run that is resumed has its steps, and the tokens that these overrode.
    other = next((name for name in ("seconds", *(["tokens"] if came is None else [])) if given.get(name)), None)
    if came not in (None, steps):
        raise UserError(f"epochs={epochs:g} are {count} steps, but steps={in_words(came)} came; give one of the two.")
    if other is not None:
        raise UserError(f"epochs={epochs:g} and {other}={in_words(given[other])} are two budgets; give one of them.")
    return {**kept, "steps": steps}


def _of_store(values: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer of a token store, unless one was given."""
    data = values.get("data")
    if not data or "tokenizer" in values or not os.path.isfile(os.path.join(os.path.expanduser(data), "index.json")):
        return {}
    from addnorm.data.tokens.token_store import is_store, tokenizer_of

    return {"tokenizer": tokenizer_of(data)} if is_store(data) else {}
