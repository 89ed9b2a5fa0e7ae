"""`--config FILE` and `--print-config`: a command's fields as TOML or JSON."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addnorm.cli.arguments import Entry, entry_of
from addnorm.cli.flags import Flag
from addnorm.errors import UserError, unknown
from addnorm.json_file import read_bytes

LONGEST = 1_000_000  # bytes; a config has a few thousand, a data file named by mistake has more


def read_config(path: Path, flags: Mapping[str, Flag]) -> dict[str, Entry]:
    """The entries of a config file by field name: TOML, or JSON where the name ends in .json.

    Raises:
        UserError: the file cannot be read, is malformed, or has a field that does not exist.
    """
    text = _text(path)
    entries: dict[str, Entry] = {}
    for key, value in _parsed(path, text).items():
        source = f"{path}{_line(text, key)}"
        name = key.replace("-", "_")
        if name not in flags:
            raise unknown(f"{source}: field", key, flags)
        if name in entries:
            raise UserError(f"{source}: field '{key}' came twice; give it once.")
        entries[name] = _entry(flags[name], f"{source}: {key} =", value)
    return entries


def to_toml(values: Mapping[str, Any], flags: Mapping[str, Flag]) -> str:
    """The values as a TOML file that `read_config` reads back, with what each field means."""
    lines = []
    for name, flag in flags.items():
        value = values[name]
        # TOML has no null: a field that is None by default is left out, as a comment that shows its name.
        unset = value is None and flag.default is None
        lines += [f"# {flag.text}", f"# {name} = ..." if unset else f"{name} = {_toml(value)}", ""]
    return "\n".join(lines)


def _text(path: Path) -> str:
    try:
        content = read_bytes(path, LONGEST)
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}; give a TOML or JSON file.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"--config {path} is not text in UTF-8; give a TOML or JSON file.") from error


def _parsed(path: Path, text: str) -> dict[str, Any]:
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        values = json.loads(text, object_pairs_hook=_once) if kind == "JSON" else tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} line {error.lineno} is not JSON: {error.msg}, column {error.colno}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}; one field a line, as in: layers = [2, 24]") from error
    except RecursionError:
        raise UserError(f"{path} is not {kind} of ours: brackets are nested too deeply.") from None
    except ValueError as error:
        raise UserError(f"{path} is not {kind}: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f'{path} must hold the fields by name, as in {{"layers": [2, 24]}}.')
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand once, as TOML asks."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise UserError(f"the config has {next(key for key in keys if keys.count(key) > 1)} twice; give it once.")
    return values


def _line(text: str, key: str) -> str:
    """` line 3`: where a key stands, if it can be found."""
    found = re.search(rf"^[\s{{,\[]*[\"']?{re.escape(key)}[\"']?\s*[=:\].]", text, flags=re.MULTILINE)
    return "" if found is None else f" line {text[: found.end()].rstrip(chr(10)).count(chr(10)) + 1}"


def _entry(flag: Flag, source: str, value: Any) -> Entry:
    items = value if isinstance(value, list) and flag.is_list else [value]
    if not items or not all(isinstance(item, (str, int, float, type(None))) for item in items):
        raise UserError(f"{source} {value} is not allowed; give {flag.expects()}.")
    if flag.is_switch or any(isinstance(item, bool) for item in items):
        if not (flag.is_switch and isinstance(value, bool)):
            raise UserError(f"{source} {_toml(value)} is not allowed; give {flag.expects()}.")
        return Entry(flag=flag, source=source, words=(str(value),))
    return entry_of(flag, source, [str(item) for item in items])


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (int, float)):
        return repr(value)
    # A TOML string is a JSON string but for DEL, which TOML wants escaped; a terminal obeys the signs behind it.
    text = json.dumps(str(value), ensure_ascii=False)
    return "".join(letter if letter < "\x7f" or letter > "\x9f" else f"\\u{ord(letter):04x}" for letter in text)
