"""What is written beside the code is there and in order."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import addnorm

ROOT = Path(__file__).parent.parent


def test_the_package_says_that_it_has_types_and_every_public_name_has_one() -> None:
    assert files("addnorm").joinpath("py.typed").is_file()
    source = (ROOT / "src" / "addnorm" / "__init__.py").read_text()
    typed = set(re.findall(r"^    from \S+ import \w+ as (\w+)(?:  # noqa.*)?$", source, re.MULTILINE))
    assert typed | {"__version__"} == set(addnorm.__all__)


def test_decisions_are_numbered_without_a_gap_and_named_by_their_numbers() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    assert all(path.read_text().startswith(f"# {path.name[:4]}: ") for path in records)


def test_links_in_what_contributors_read_lead_somewhere() -> None:
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "LOG.md", *map(str, (ROOT / "docs" / "decisions").glob("*.md"))):
        text = (ROOT / page).read_text()
        for link in re.findall(r"\]\(((?!http|#)[^)#]+)\)", text):
            assert ((ROOT / page).parent / link).exists(), (page, link)


def test_every_package_of_an_extra_is_used_by_some_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for extra, packages in project["optional-dependencies"].items():
        if extra in ("dev", "docs", "oracles"):
            continue
        for package in packages:
            name = {"pillow": "PIL"}.get(package, re.split(r"[ ;<>=]", package)[0])
            uses = rf"(import|from) (torch\.utils\.)?{name}\b|(find_spec|import_module)\(\"{name}[\".]"
            assert re.search(uses, source), (extra, name)
