"""From a command's words to its dataclasses: config file, then flags, then the checks of the dataclasses themselves."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from addnorm.cli.arguments import Entry, convert, scan
from addnorm.cli.flags import Flag, flags_of
from addnorm.consent import refuse_code, trusting
from addnorm.specification import files_in

CODE = {"task", "scheme", "schemes", "baseline"}
"""Fields whose values may name Python files."""
Complete = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
"""From the values that were given for the first part, and for the others, to the first's with what depends on them."""


def as_given(values: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The values alone."""
    return dict(values)


class FlagsWanted(list[str]):
    """Words that ask a command which flags it has; it then does nothing else."""

    flags: Mapping[str, Flag] = {}


def invoke(
    run: Callable[..., int],
    name: str,
    words: Sequence[str],
    *parts: type,
    stored: str = "",
    complete: Complete = as_given,
) -> int:
    """Run a command.

    Args:
        run: takes one object of each part; its docstring is the help's description.
        name: the command's.
        words: the command line after the name.
        parts: the dataclasses whose fields are the flags. With two, the first is what `--config` reads and
            `--print-config` writes.
        stored: the file in the output folder that `--resume` takes the config from, so that no flag need be repeated.
        complete: adds to the first part's values the defaults that depend on them, such as a task's.

    Returns:
        The exit code.

    Raises:
        UserError: a word, a value or a combination is not allowed.
    """
    flags = flags_of(*parts)
    if isinstance(words, FlagsWanted):
        words.flags = flags
        return 0
    if {"-h", "--help"} & set(words[: words.index("--")] if "--" in words else words):
        from addnorm.cli.help import page

        print(page(name, inspect.getdoc(run) or "", flags), end="")
        return 0
    entries = scan(name, words, flags)
    file = _config_file(name, entries, stored)
    if file is not None:
        from addnorm.cli.config_file import read_config

        stored_entries = read_config(file, flags_of(parts[0]))
        named = [file for field in CODE & entries.keys() for word in entries[field].words for file in files_in(word)]
        for field in CODE & stored_entries.keys() - entries.keys():
            refuse_code(stored_entries[field].words, file, flags[field].flag, named)
        entries = stored_entries | entries
    values = convert(name, entries, flags)
    given = [{key: value for key, value in values.items() if flags[key].owner is part} for part in parts]
    options = {key: value for part in given[1:] for key, value in part.items()}
    with trusting(*(word for field in CODE & entries.keys() for word in entries[field].words)):
        made = [part(**own) for part, own in zip(parts, [complete(given[0], options), *given[1:]], strict=True)]
        if getattr(made[-1], "print_config", False):
            return _print_config(made[0])
        _choose_kernels()
        return run(*made)


def _choose_kernels() -> None:
    """As the environment says; kernels need torch, so without a word nothing is imported."""
    word = os.environ.get("ADDNORM_KERNELS")
    if word:
        from addnorm.kernels.choice import choose

        choose(word)


def _config_file(name: str, entries: Mapping[str, Entry], stored: str) -> Path | None:
    """What `--config` names, or what the folder holds that is to be resumed."""
    if "config" in entries:
        return Path(entries["config"].words[0])
    if stored and "resume" in entries and entries["resume"].words == ("True",):
        from addnorm.cli.folders import folder

        out = Path(entries["out"].words[0]) if "out" in entries else None
        path = folder(name, out, resume=True) / stored
        return path if path.is_file() else None
    return None


def _print_config(config: Any) -> int:
    from addnorm.cli.config_file import to_toml

    sys.stdout.write(to_toml(asdict(config), flags_of(type(config))))
    return 0
