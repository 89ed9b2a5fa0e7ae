"""The README is short, and what it names exists; both languages say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import addnorm

ROOT = Path(__file__).parent.parent
README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 80
    ((_, code),) = [(language, code) for language, code in BLOCK.findall(README) if "import addnorm" in code]
    assert len([line for line in code.splitlines() if line.strip()]) < 10


def test_both_readmes_have_the_same_parts_code_links_and_numbers() -> None:
    def parts(text: str) -> list[int]:
        return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]

    def code(text: str) -> list[str]:
        """Without comments, which are translated."""
        return [re.sub(r" *#.*", "", block).rstrip() for _, block in BLOCK.findall(text)]

    def prose(text: str) -> str:
        return BLOCK.sub("", text)

    def links(text: str) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", text)

    def numbers(text: str) -> list[str]:
        return sorted(re.findall(r"\d+(?:\.\d+)?", re.sub(r"\]\([^)]+\)", "", prose(text))))

    assert parts(README) == parts(CHINESE)
    assert code(README) == code(CHINESE)
    # The first is to the other language; of the tutorial's two each leads with its own.
    assert sorted(links(README)[1:]) == sorted(links(CHINESE)[1:])
    assert (links(README)[0], links(CHINESE)[0]) == ("README.zh-CN.md", "README.md")
    assert numbers(README) == numbers(CHINESE)
    assert prose(README).count("\n|") == prose(CHINESE).count("\n|")


def test_the_catalogue_has_as_many_schemes_as_the_readme_says() -> None:
    assert f"of {len(addnorm.schemes.names())} schemes" in README


def test_public_names_are_loaded_on_first_use() -> None:
    assert all(getattr(addnorm, name) is not None for name in addnorm.__all__)
    with pytest.raises(AttributeError, match="it has"):
        addnorm.no_such_name  # noqa: B018
