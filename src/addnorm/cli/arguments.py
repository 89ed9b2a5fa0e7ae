"""From the words of a command line, and of a config file, to checked values by field name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from addnorm.cli.flags import Flag, in_words
from addnorm.errors import UserError, unknown
from addnorm.specification import split


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The words given for one flag, and where they stood."""

    flag: Flag
    source: str
    """`--num-heads`, or `arms.toml line 3: num_heads`."""
    words: tuple[str, ...]


def scan(command: str, words: Sequence[str], flags: Mapping[str, Flag]) -> dict[str, Entry]:
    """The entries of a command line by field name; nothing is converted yet.

    Raises:
        UserError: a flag is unknown, a value is missing or too much.
    """
    if any("\0" in word for word in words):
        raise UserError("an argument holds a NUL character; no name or text may.")
    flags = {**flags, **{_field_name(alias): flag for flag in flags.values() for alias in flag.aliases}}
    entries: dict[str, Entry] = {}
    loose: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            loose += rest
            break
        if not _is_flag(word):
            loose.append(word)
            continue
        entry = _entry(command, word, rest, flags)
        before = entries.get(entry.flag.name)
        if before is not None and entry.flag.repeatable:
            entry = replace(entry, words=before.words + entry.words)
        elif before is not None and entry.flag.is_list:
            raise UserError(f"{entry.source} came twice; give it once, with all its values.")
        entries[entry.flag.name] = entry
    return entries | _positional(command, loose, flags)


def convert(command: str, entries: Mapping[str, Entry], flags: Mapping[str, Flag]) -> dict[str, Any]:
    """The values of the entries, each of its field's type.

    Raises:
        UserError: a value is not of its field's type; names where it stood, what came, what is needed.
    """
    values = {name: _value(entry) for name, entry in entries.items()}
    for flag in flags.values():
        if flag.required and flag.name not in values:
            raise UserError(f"{flag.flag} is missing: {flag.text[:1].lower()}{flag.text[1:]}")
    return values


def split_list(text: str) -> list[str]:
    """The items of a list written with commas; those inside brackets belong to an item.

    >>> split_list("pre-norm,layer-scale(init=0.1, norm=rms)")
    ['pre-norm', 'layer-scale(init=0.1, norm=rms)']
    """
    return split(text)[0]


def entry_of(flag: Flag, source: str, words: Sequence[str]) -> Entry:
    """An entry with its list split, and with None spelt so."""
    if flag.is_list:
        words = [item for word in words for item in split_list(word)]
    if flag.optional and [word.lower() for word in words] == ["none"]:
        words = ["None"]
    return Entry(flag=flag, source=source, words=tuple(words))


def unknown_word(what: str, came: str, allowed: Sequence[str], see: str) -> UserError:
    """The error for a command or flag that does not exist, with the nearest one.

    >>> print(unknown_word("flag", "--layerz", ["--layers"], "addnorm compare --help"))
    flag '--layerz' is unknown; did you mean '--layers'? `addnorm compare --help` lists what is allowed.
    """
    near = get_close_matches(came, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UserError(f"{what} '{came}' is unknown{hint} `{see}` lists what is allowed.")


def _is_flag(word: str) -> bool:
    """`--name`, `-n`; not `-1`, `-.5`, `-`."""
    return re.match(r"--[^\s]|-[A-Za-z]", word) is not None


def _field_name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _entry(command: str, word: str, rest: list[str], flags: Mapping[str, Flag]) -> Entry:
    """The entry that a flag opens; its values are taken from the rest."""
    typed, equals, value = word.partition("=")
    name = _field_name(typed) if typed.startswith("--") else ""
    off = name.removeprefix("no_")
    if off in flags and flags[off].is_switch:
        if equals:
            raise UserError(f"{word}: {typed} takes no value; write {flags[off].flag} or --no-{off.replace('_', '-')}.")
        return Entry(flag=flags[off], source=typed, words=("False" if off != name else "True",))
    flag = flags.get(name)
    if flag is None or flag.positional:
        allowed = [flag.flag for flag in flags.values() if not flag.positional]
        raise unknown_word("flag", typed, [*allowed, "--help"], f"addnorm {command} --help")
    words = [value] if equals else _values(flag, rest)
    entry = entry_of(flag, flag.flag, words)
    if not entry.words:
        came = f"; '{rest[0]}' came" if rest else ""
        raise UserError(f"{flag.flag} has no value{came}; give {flag.expects()}.")
    return entry


def _values(flag: Flag, rest: list[str]) -> list[str]:
    """The words that belong to a flag, taken from the rest: one, or for a list all up to the next flag."""
    words: list[str] = []
    while rest and not _is_flag(rest[0]) and rest[0] != "--" and (flag.is_list or not words):
        words.append(rest.pop(0))
    return words


def _positional(command: str, loose: Sequence[str], flags: Mapping[str, Flag]) -> dict[str, Entry]:
    places = [flag for flag in flags.values() if flag.positional]
    if len(places) == 1 and places[0].is_list:
        entry = entry_of(places[0], places[0].flag, loose)
        return {places[0].name: entry} if entry.words else {}
    if len(loose) > len(places):
        takes = f"takes {' and '.join(flag.flag for flag in places)}" if places else "takes flags only"
        raise UserError(f"'{loose[len(places)]}' is too much: addnorm {command} {takes}; quote a text that has spaces.")
    return {
        flag.name: Entry(flag=flag, source=flag.flag, words=(word,)) for flag, word in zip(places, loose, strict=False)
    }


def _value(entry: Entry) -> Any:
    """What the words of an entry are."""
    kind = entry.flag.type
    if entry.flag.optional and entry.words == ("None",):
        return None
    if entry.flag.is_list:
        return tuple(_item(entry, get_args(kind)[0], word) for word in entry.words)
    return _item(entry, kind, entry.words[0])


def _item(entry: Entry, kind: Any, word: str) -> Any:
    if kind is bool:
        return word == "True"
    if get_origin(kind) is Literal:
        if word not in get_args(kind):
            raise unknown(entry.source, word, get_args(kind))
        return word
    try:
        value = kind(word)
    except ValueError:
        raise _wrong(entry) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(entry)
    return value


def _wrong(entry: Entry) -> UserError:
    flag, came = entry.flag, " ".join(entry.words)
    hint = "" if flag.required or flag.default is None else f", such as {in_words(flag.default)}"
    return UserError(f"{entry.source} {came} is not allowed; give {flag.expects()}{hint}.")
