"""The site shows every page of the docs and one page a scheme, made of what is known about the scheme."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripts import build_site

from addnorm import schemes

ROOT = Path(__file__).parents[1]


def test_every_page_of_the_docs_is_in_the_menu() -> None:
    menu = json.dumps(build_site.nav(), ensure_ascii=False)
    pages = [file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 40
    assert [page for page in (*pages, *build_site.PAGES) if f'"{page}"' not in menu] == []


@pytest.mark.parametrize("name", ["keel", "mhc", "post-norm"])
def test_the_page_of_a_scheme_has_its_parts(name: str) -> None:
    page = build_site.scheme_page(name)
    assert page.startswith(f"# {name}\n")
    assert [part for part in ("Oracles", "Certificate", "Claims", "Code") if f"\n## {part}\n" not in page] == []
    (drawing,) = re.findall(r"\]\(\.\./(diagrams/.*?\.svg)\)", page)
    assert (ROOT / "docs" / drawing).exists()
    assert f"class {schemes.get(name).__name__}(" in page


def test_where_a_scheme_ships_is_what_it_was_held_against_as_a_whole() -> None:
    assert "torch.nn.TransformerEncoder" in build_site.ships("post-norm")
    assert build_site.ships("mhc") == ""  # DeepSeek-V4's differs: only without its eps do they agree
    assert "DeepSeek-V4" in build_site.ships("deepseek-mhc")
