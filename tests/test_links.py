"""Every link of a page to another page, to a place on it, to a picture or a file leads somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)|<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")


@cache
def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^(`{3,}).*?^\1`*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """Where a page leads; brackets in its code mean something else."""
    text = re.sub(r"(`+)[^`]+\1", lambda code: re.sub(r"[\[\]()]", "", code[0]), prose(page))
    return [first or second for first, second in LINK.findall(text)]


@cache
def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links: in lower case, words and hyphens, each one once."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *#*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return {*found, *re.findall(r"\b(?:id|name)=\"([^\"]+)\"", page.read_text(encoding="utf-8"))}


def broken(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return not target.exists() or (anchor != "" and target.suffix == ".md" and anchor not in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    inside = [link for link in links(page) if not re.match(r"[a-z]+:", link)]
    assert [link for link in inside if broken(page, link)] == []


def test_links_are_found_and_broken_ones_told(tmp_path: Path) -> None:
    assert sum(len(links(page)) for page in PAGES) > 300
    page = tmp_path / "a.md"
    page.write_text("# One `two_x`: three\n\n# One `two_x`: three\n\n```\n# code\n```\n", encoding="utf-8")
    assert anchors(page) == {"one-two_x-three", "one-two_x-three-1"}
    assert [broken(page, link) for link in ("a.md", "#one-two_x-three-1", "a.md#one-two_x-three")] == [False] * 3
    assert [broken(page, link) for link in ("b.md", "#one", "a.md#code")] == [True] * 3
