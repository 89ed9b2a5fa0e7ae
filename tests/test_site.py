"""The site shows every page of the docs and one page a scheme, made of what is known about the scheme."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripts import build_site, check_site

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
    assert "<math display" in page and "```" not in page.partition("## Code")[0]  # the equation is drawn
    assert [part for part in ("Oracles", "Certificate", "Claims", "Code") if f"\n## {part}\n" not in page] == []
    (drawing,) = re.findall(r"\]\(\.\./(diagrams/.*?\.svg)\)", page)
    assert (ROOT / "docs" / drawing).exists()
    assert f"class {schemes.get(name).__name__}(" in page


def test_where_a_scheme_ships_is_what_it_was_held_against_as_a_whole() -> None:
    assert "torch.nn.TransformerEncoder" in build_site.ships("post-norm")
    assert build_site.ships("mhc") == ""  # DeepSeek-V4's differs: only without its eps do they agree
    assert "DeepSeek-V4" in build_site.ships("deepseek-mhc")


def test_nothing_that_the_site_asks_for_is_elsewhere() -> None:
    settings = build_site.configuration()
    assert settings["theme"]["font"] is False
    assert "http" not in json.dumps(settings) + build_site.CSS


BESIDE = '<a href="b.html#here">b</a><a href="https://arxiv.org">paper</a><img src="data:image/png;base64,AA">'
FAULTS = {
    '<script src="https://unpkg.com/x.js"></script>': "https://unpkg.com/x.js would be fetched from elsewhere",
    '<link rel="stylesheet" href="//fonts.example/a.css">': "//fonts.example/a.css would be fetched from elsewhere",
    '<p style="background: url(http://a.example/b.png)">': "http://a.example/b.png would be fetched from elsewhere",
    '<img src="no.png">': "no.png does not exist",
    '<img srcset="no.png 2x">': "no.png does not exist",
    '<a href="no.ipynb">': "no.ipynb leads nowhere",
    '<a href="b.html#no">': "b.html#no leads to no such place of the page",
    '<a href="#no">': "#no leads to no such place of the page",
    '<pre class="mermaid">': "a mermaid diagram, whose library would be fetched",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_leads_nowhere_or_elsewhere_is_told(fault: str, tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h2 id="here">b</h2>')
    (tmp_path / "a.html").write_text(BESIDE)
    assert check_site.faults(tmp_path) == []
    (tmp_path / "a.html").write_text(BESIDE + fault)
    assert check_site.faults(tmp_path) == [f"a.html: {FAULTS[fault]}"]


def test_a_style_sheet_that_fetches_a_font_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text('@import "https://fonts.example/a.css"; p { src: url(data:font/woff2;base64,AA) }')
    assert check_site.faults(tmp_path) == ["a.css: https://fonts.example/a.css would be fetched from elsewhere"]


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert build_site.main(tmp_path) == 2
    assert "holds something else than a site" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()
