"""`addnorm runs`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.cli.folders import HOME
from addnorm.cli.invoke import invoke
from addnorm.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from addnorm.studies.stored_runs import StoredRun


@dataclass(frozen=True, kw_only=True)
class RunsOptions:
    """Which folder is listed."""

    folder: Path = field(default=HOME, metadata={"positional": "FOLDER"})
    """Folder that holds runs and comparisons; it is looked into three folders deep."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which run."""

    run: Path = field(metadata={"positional": "RUN"})
    """Folder of a run or of a comparison, or its name in runs/."""


@dataclass(frozen=True, kw_only=True)
class ShowOptions(RunOptions):
    """Which run, and how it is shown."""

    json: bool = False
    """As JSON on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class RenameOptions:
    """Which run, and its new name."""

    run: Path = field(metadata={"positional": "RUN"})
    """Folder of a run or of a comparison, or its name in runs/."""
    name: str = field(metadata={"positional": "NAME"})
    """The folder's new name; it stays where it is."""


@dataclass(frozen=True, kw_only=True)
class DeleteOptions(RunOptions):
    """Which run, and whether that is meant."""

    yes: bool = False
    """Delete without asking; needed where nobody can be asked."""


ACTIONS = ("show", "rename", "delete", "open")
"""Words that may come first."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm runs`."""
    if words and words[0] in ACTIONS:
        taken = ((_show, ShowOptions), (_rename, RenameOptions), (_delete, DeleteOptions), (_open, RunOptions))
        run, options = taken[ACTIONS.index(words[0])]
        return invoke(run, f"runs {words[0]}", words[1:], options)
    return invoke(_runs, "runs", words, RunsOptions)


def _runs(options: RunsOptions) -> int:
    """List trained runs and comparisons, the newest first.

    addnorm runs show RUN, runs rename RUN NAME, runs delete RUN and runs open RUN do what they say with one of them.
    """
    from addnorm.cli import console
    from addnorm.studies.stored_runs import stored_runs

    found = stored_runs(options.folder)
    if options.json:
        console.print_json([_values(one) for one in found])
    elif found:
        console.out().print(_table(found, options.folder))
    else:
        console.out().print(f"{options.folder} holds no run.", markup=False)
    return 0


def _show(options: ShowOptions) -> int:
    """What a run or a comparison is: what was trained, how it ended, and the runs within a comparison."""
    from addnorm.cli import console
    from addnorm.studies.stored_runs import runs_within

    one = _chosen(options.run)
    within = runs_within(one.path) if one.kind == "comparison" else []
    if options.json:
        own = {"config": "config.json", "about": "run.json", "result": "result.json", "spec": "spec.json"}
        stored = {key: _object(one.path / name) for key, name in own.items() if (one.path / name).is_file()}
        console.print_json(_values(one) | stored | {"runs": [_values(run) for run in within]})
        return 0
    screen = console.out()
    for name, text in _facts(one):
        screen.print(f"{name:<14} {text}", markup=False, soft_wrap=True)
    if within:
        screen.print(_table(within, one.path))
    return 0


def _rename(options: RenameOptions) -> int:
    """Give a run's folder another name."""
    from addnorm.cli import console

    one = _chosen(options.run)
    if options.name in (".", "..") or Path(options.name).name != options.name:
        raise UserError(f"'{options.name}' is no name of a folder; give one without '/'.")
    target = one.path.with_name(options.name)
    _refuse_part(one, "renamed")
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists already; give another name.")
    with _held(one):
        one.path.rename(target)
    console.out().print(f"{one.path} is now {target}", markup=False, soft_wrap=True)
    return 0


def _delete(options: DeleteOptions) -> int:
    """Delete a run or a comparison, with all its files."""
    from addnorm.cli import console
    from addnorm.reports.numbers import bytes_text

    one = _chosen(options.run)
    about = f"{one.path} ({one.kind} of {one.task}, {one.status}, {bytes_text(one.bytes)})"
    if one.path.is_symlink():
        raise UserError(f"{one.path} is a link; delete what it leads to, or the link itself with rm.")
    _refuse_part(one, "deleted")
    if not options.yes and not _agreed(f"Delete {about}?"):
        raise UserError(f"{one.path} was not deleted; add --yes to delete it without being asked.")
    with _held(one):
        shutil.rmtree(one.path)
    console.out().print(f"deleted: {about}", markup=False, soft_wrap=True)
    return 0


def _open(options: RunOptions) -> int:
    """Open a comparison's report, or a run's folder, in the browser."""
    import webbrowser

    from addnorm.cli import console

    one = _chosen(options.run)
    report = one.path / "report.html"
    shown = report if report.is_file() else one.path
    opened = webbrowser.open(shown.resolve().as_uri())
    console.out().print(f"{'opened' if opened else 'no browser here; open'} {shown}", markup=False, soft_wrap=True)
    return 0


def _chosen(named: Path) -> StoredRun:
    from addnorm.studies.stored_runs import stored_run

    return stored_run(named, HOME)


def _refuse_part(one: StoredRun, done: str) -> None:
    """A comparison whose runs are moved away would train them again."""
    from addnorm.studies.stored_runs import comparison_of

    whole = comparison_of(one.path)
    if whole is not None:
        raise UserError(f"{one.path} is a part of the comparison {whole}, which alone can be {done}.")


@contextmanager
def _held(one: StoredRun) -> Iterator[None]:
    """Nobody trains in it meanwhile.

    Raises:
        UserError: somebody does.
    """
    from addnorm.studies.stored_runs import runs_within
    from addnorm.training.lock import FolderLock

    with ExitStack() as locks:
        for folder in (one.path, *(run.path for run in runs_within(one.path))):
            locks.enter_context(FolderLock(folder))
        yield


def _agreed(question: str) -> bool:
    """Whether somebody at a terminal says yes."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _values(one: StoredRun) -> dict[str, Any]:
    """For JSON: the newest fields of a folder in the order of the table."""
    return asdict(one) | {"path": str(one.path), "written": _date(one.written, "%Y-%m-%dT%H:%M:%S%z")}


def _table(found: Sequence[StoredRun], home: Path) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from addnorm.reports.numbers import bytes_text, fixed

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    for heading in ("run", "task", "scheme", "layers", "status", "loss", "size", "date"):
        table.add_column(heading, justify="right" if heading in ("layers", "loss", "size") else "left", overflow="fold")
    for one in found:
        name = one.path.relative_to(home) if one.path.is_relative_to(home) else one.path
        loss = "" if one.loss is None else fixed(one.loss, 3)
        cells = (str(name), one.task, _several(one.schemes), _several(one.layers), one.status, loss)
        table.add_row(*map(Text, (*cells, bytes_text(one.bytes), _date(one.written))))
    return table


def _facts(one: StoredRun) -> Iterator[tuple[str, str]]:
    """What is said of a run above the table of a comparison, or alone."""
    from addnorm.reports.numbers import bytes_text, count, fixed
    from addnorm.reports.scores import shown

    stored = {name: _object(one.path / f"{name}.json") for name in ("config", "run", "result")}
    config, about, result = stored.values()
    yield one.kind, str(one.path)
    yield "task", f"{one.task}, data {config['data']}" if "data" in config else one.task
    yield "scheme", ", ".join(one.schemes)
    yield "layers", ", ".join(map(str, one.layers))
    if "parameters" in about:
        yield "size", f"{count(about['parameters'])} parameters, {config.get('d_model', '?')} wide"
    yield "status", one.status
    health = result.get("diagnosis")
    if isinstance(health, dict):
        yield "health", ": ".join(str(health[key]) for key in ("kind", "figure") if health.get(key))
    if one.loss is not None:
        unit = result.get("loss_name")
        yield "loss", f"{fixed(one.loss, 3)}{f' {unit}' if unit else ', the lowest mean of an arm'}"
    for score in result.get("scores") or ():
        yield str(score.get("name")), shown(score.get("value"))
    yield "on disk", bytes_text(one.bytes)
    yield "date", _date(one.written)


def _several(values: Sequence[object], most: int = 3) -> str:
    shown = ", ".join(map(str, values[:most]))
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown


def _date(seconds: float, form: str = "%Y-%m-%d %H:%M") -> str:
    return time.strftime(form, time.localtime(seconds))


def _object(path: Path) -> dict[str, Any]:
    from addnorm.json_file import read_object

    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}
