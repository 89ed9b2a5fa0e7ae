"""`addnorm tasks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from inspect import cleandoc
from typing import Any

from addnorm.cli.arguments import in_words
from addnorm.cli.invoke import invoke


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """Which task."""

    name: str | None = field(default=None, metadata={"positional": "TASK"})
    """One task with its fields and defaults: a name, or a Python file that defines one. Default: all of them."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm tasks`."""
    return invoke(_tasks, "tasks", words, TasksOptions)


def _tasks(options: TasksOptions) -> int:
    """The tasks there are: those of addnorm, and those that installed packages bring."""
    from addnorm import tasks
    from addnorm.cli import console

    wanted = tasks.names() if options.name is None else (options.name,)
    found = [described(name) for name in wanted]
    if options.json:
        console.print_json(found if options.name is None else found[0])
        return 0
    for item in found:
        lines = _whole(item) if options.name is not None else [f"{item['name']:<22}{item['title']}"]
        for line in lines:
            console.out().print(line, markup=False, soft_wrap=True)
    return 0


def described(name: str) -> dict[str, Any]:
    """A task as plain data.

    Raises:
        UserError: there is none of that name.
    """
    from addnorm import tasks

    task = tasks.get(name)
    text = cleandoc(task.__doc__ or "")
    own = {item.name: None if item.default is MISSING else item.default for item in fields(task) if item.init}
    title = text.splitlines()[0] if text else ""
    return {"name": name, "title": title, "about": text, "fields": own, "defaults": dict(task.defaults)}


def _whole(item: dict[str, Any]) -> list[str]:
    lines = [item["about"], ""]
    for title, values in (("fields", item["fields"]), ("defaults of addnorm train", item["defaults"])):
        if values:
            lines += [f"{title}:", *(f"  {name} = {in_words(value)}" for name, value in values.items())]
    return lines
