"""The defaults of a command that depend on the task it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from addnorm.cli.invoke import Complete


def of_task(kind: Literal["defaults", "comparison"]) -> Complete:
    """Adds what the task of the values has as defaults; without a task nothing, and torch is not imported for it."""

    def complete(values: Mapping[str, Any]) -> dict[str, Any]:
        if "task" not in values:
            return dict(values)
        from addnorm import tasks
        from addnorm.specification import parts

        own = getattr(tasks.get(parts("task", values["task"])[0]), kind)
        return tasks.with_defaults(values, own)

    return complete
