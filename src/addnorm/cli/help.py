"""The help page of a command, from its flags."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from addnorm.cli.flags import Flag, in_words

COLUMN = 24
"""Where the explanations begin."""
WIDEST = 110
WIDTH_OF_A_FILE = 80


def page(command: str, description: str, flags: Mapping[str, Flag]) -> str:
    """Usage, description, and the flags in groups."""
    places = [_place(flag) for flag in flags.values() if flag.positional]
    lines = [" ".join(["usage: addnorm", command, *places, "[OPTIONS]"]), "", description, ""]
    for group in dict.fromkeys(flag.group for flag in flags.values()):
        lines += [_bold(f"{group}:"), *_explained(flag for flag in flags.values() if flag.group == group), ""]
    return "\n".join([*lines, *_entry("-h, --help", "this page"), ""])


def _explained(flags: Iterable[Flag]) -> list[str]:
    return [line for flag in flags for line in _entry(_spelt(flag), flag.text + _default(flag))]


def _entry(flag: str, text: str) -> list[str]:
    """A flag and its explanation beside it; below it where the flag is long."""
    width = min(shutil.get_terminal_size((WIDTH_OF_A_FILE, 24)).columns, WIDEST)
    lines = textwrap.wrap(text, max(width - COLUMN, 30), break_on_hyphens=False, break_long_words=False)
    told = [f"{'':{COLUMN}}{line}" for line in lines]
    if len(flag) > COLUMN - 4 or not told:
        return [f"  {flag}", *told]
    return [f"  {flag:{COLUMN - 2}}{lines[0]}", *told[1:]]


def _place(flag: Flag) -> str:
    """`RUN`, `[CLAIM ...]`."""
    name = f"{flag.flag} ..." if flag.is_list else flag.flag
    return name if flag.required else f"[{name}]"


def _spelt(flag: Flag) -> str:
    """`--learning-rate, --lr FLOAT`."""
    if flag.positional:
        return flag.flag
    names = ", ".join([flag.flag, *flag.aliases])
    if flag.is_switch:
        return f"{names}, --no-{flag.flag[2:]}" if flag.default else names
    item = get_args(flag.type)[0] if flag.is_list else flag.type
    kinds = {int: "INT", float: "FLOAT", Path: "PATH"}
    metavar = f"{{{','.join(get_args(item))}}}" if get_origin(item) is Literal else kinds.get(item, "TEXT")
    return f"{names} {metavar}" + (f" [{metavar} ...]" if flag.is_list else "")


def _default(flag: Flag) -> str:
    said = flag.required or flag.default in (None, False, ()) or "Default: " in flag.text
    return "" if said else f" (default: {in_words(flag.default)})"


def _bold(text: str) -> str:
    stream = sys.stdout
    seen = stream is not None and stream.isatty() and "NO_COLOR" not in os.environ
    return f"\x1b[1m{text}\x1b[0m" if seen else text
