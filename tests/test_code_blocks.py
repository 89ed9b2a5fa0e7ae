"""Every Python block of README and docs runs alone, once, and every command line there is one that the parser takes.

A block that is not run has a comment before it: `<!-- not run, KIND: what it needs -->`. The tutorial's cells need one
another and have a test of their own; README.zh-CN.md has README.md's code, which tests/test_readme.py holds it to.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import tomllib
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from addnorm.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
    if not page.name.startswith(("tutorial", "catalogue", "LOG"))
]
EXCUSES = ("weights", "file", "minutes")
"""What a block may need that a test does not give it."""
FENCE = re.compile(r"^(?:<!-- not run, (\w+): (.+?) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SLOW = {"docs/how-to-diagnose-a-model.md:5"}  # the first optimizer of a process imports torch's compiler


class Block(NamedTuple):
    """A fenced block of a page."""

    name: str
    kind: str
    reason: str
    language: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(f"{page.relative_to(ROOT).as_posix()}:{number}", *parts) for number, parts in enumerate(found, 1)]


BLOCKS = {block.name: block for page in PAGES for block in blocks_of(page)}
PYTHON = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, block in BLOCKS.items()
    if block.language == "python" and not block.kind and not name.startswith("README.zh-CN")
]
COMMAND_LINES = sorted(
    {
        line.strip().removeprefix("$ ")
        for block in BLOCKS.values()
        if block.language in ("", "sh") and not block.kind
        for line in block.code.replace("\\\n", " ").splitlines()
        if re.match(r" *(?:\$ )?addnorm [a-z]", line)
    }
)


@cache
def ran(name: str) -> dict[str, Any]:
    """The names that a block defines where nothing else has run."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(BLOCKS[name].code, name, "exec", dont_inherit=True), names)
    return names


def test_every_block_is_found() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page
        assert not re.search(r"^    (?:\$ )?addnorm [a-z]", page.read_text(encoding="utf-8"), re.MULTILINE), page
    assert len(PYTHON) >= 8
    assert len(COMMAND_LINES) > 80


def test_what_is_not_run_says_why() -> None:
    excused = [block for block in BLOCKS.values() if block.kind]
    comments = [
        text for page in PAGES for text in re.findall(r"<!--.*?-->", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(excused) == len([text for text in comments if "not run" in text])
    assert {block.kind for block in excused} <= set(EXCUSES)
    assert all(len(block.reason.split()) >= 4 for block in excused)


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_block_runs_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran(name)


def test_the_readme_computes_what_it_says() -> None:
    body, ten_lines = ran("README.md:1")["body"], ran("README.md:4")
    assert ten_lines["logits"].shape == (2, 32, 256)
    assert ten_lines["text"].shape == (1, 24)
    assert ten_lines["hidden"].shape == (2, 32, 64)
    embedding = torch.randn(2, 5, 64)
    # A kernel that takes several sites at once rounds otherwise than the equations: torch's tolerance for float32.
    torch.testing.assert_close(body(ten_lines["stack"], embedding), ten_lines["stack"](embedding))


def test_the_page_of_commands_computes_what_it_says() -> None:
    assert ran("docs/commands.md:1")["z"].shape == (2, 32, 64)


def test_the_scheme_of_twenty_lines_learns() -> None:
    model = ran("docs/write-your-own-scheme.md:1")["mine"]
    model(torch.randint(256, (1, 9))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_fault_is_found_and_printed_as_shown() -> None:
    found, shown = ran("docs/how-to-diagnose-a-model.md:2")["found"], BLOCKS["docs/how-to-diagnose-a-model.md:3"]
    assert shown.language == "text" and str(found).startswith(shown.code.partition("...")[0])
    assert [finding.place for finding in found.findings] == ["3.mlp"]


@pytest.mark.slow
def test_the_recorder_recorded() -> None:
    assert [row["step"] for row in ran("docs/how-to-diagnose-a-model.md:5")["recorder"].rows] == [0, 2]


def test_the_encoder_holds() -> None:
    assert ran("docs/how-to-diagnose-a-model.md:4")["certificate"].holds


def words_of(line: str) -> list[str]:
    """As the shell hands them to the first command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    return list(takewhile(lambda word: not set(word) <= set("|&;<>"), lexer))


class Understood(BaseException):
    """The words of a command were taken; it does not go on."""


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_line_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags exist, values are of their types, nothing needed is missing; then the command is stopped."""
    from addnorm.cli import arguments, invoke

    def convert(*given: Any) -> None:
        arguments.convert(*given)
        raise Understood

    monkeypatch.setattr(invoke, "convert", convert)
    _, command, *words = words_of(line)
    with pytest.raises(Understood):
        importlib.import_module(f"addnorm.cli.{command.replace('-', '_')}").command(words)


def test_the_page_of_commands_has_a_row_of_every_command() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `addnorm ([a-z-]+)", page, re.MULTILINE)) == sorted(COMMANDS)


def test_json_and_toml_can_be_read() -> None:
    for block in BLOCKS.values():
        if block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)
