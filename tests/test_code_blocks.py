"""Every Python block of README and docs runs alone, and every command has flags that exist.

A block that must not run has a comment before it: `<!-- not run: why -->`. The tutorial has its own tests.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest

from addnorm.cli import COMMANDS
from command_line import here

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if not page.name.startswith(("tutorial", "catalogue", "LOG"))
]
BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [
    (f"{page.relative_to(ROOT).as_posix()}:{number}", *found)
    for page in sorted(PAGES)
    for number, found in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1)
]
PYTHON = [(name, code) for name, reason, language, code in BLOCKS if language == "python" and not reason]
COMMAND_LINES = sorted(
    {
        line
        for _, reason, language, code in BLOCKS
        if language in ("", "sh") and not reason
        for line in code.replace("\\\n", " ").splitlines()
        if re.match(r"addnorm [a-z]", line)
    }
)


@cache
def help_of(command: str) -> str:
    return here(command, "--help").out


def test_blocks_are_found() -> None:
    assert len(PYTHON) >= 8
    assert len(COMMAND_LINES) > 40


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), PYTHON, ids=[name for name, _ in PYTHON])
def test_a_python_block_runs_alone(name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec", dont_inherit=True), {"__name__": "page"})


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_flags_of_a_command_exist(line: str) -> None:
    _, command, *words = shlex.split(line, comments=True)
    assert command in COMMANDS
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [flag for flag in flags if not re.search(rf"{flag}(?![\w-])", help_of(command))] == []


def test_json_and_toml_can_be_read() -> None:
    for _, _, language, code in BLOCKS:
        if language == "json":
            json.loads(code)
        elif language == "toml":
            tomllib.loads(code)
