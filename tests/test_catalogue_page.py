"""The catalogue page says what the schemes say, and what was measured of them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from addnorm import schemes

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "catalogue.md").read_text()
AGAIN = "run python scripts/build_catalogue.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("catalogue", ROOT / "scripts" / "build_catalogue.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", schemes.names())
def test_every_scheme_is_measured(script: ModuleType, name: str) -> None:
    found = script.measured().get(name)
    assert found is not None, f"run python scripts/measure_catalogue.py {name}"
    assert found["oracles"], f"{name} is held against nothing; write its equation in tests/schemes"
    for oracle in found["oracles"]:
        # What the tests allow: a larger number was not measured by them.
        for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
            assert max(oracle[dtype].values()) <= tolerance
    assert found["certificate"]["holds"]


def test_the_catalogue_page_is_what_the_docstrings_and_measurements_say(script: ModuleType) -> None:
    assert script.page() == PAGE, f"a docstring, a claim or a measurement has changed; {AGAIN}"


def test_the_diagrams_are_those_of_the_schemes(script: ModuleType) -> None:
    drawn = script.drawings()
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "diagrams").glob("*.svg")}
    assert kept == drawn, AGAIN
    for svg in drawn.values():
        ElementTree.fromstring(svg)


def test_every_scheme_has_a_row_a_section_and_a_picture_that_exists() -> None:
    assert re.findall(r"^\| \[([a-z0-9-]+)\]", PAGE, re.MULTILINE) == list(schemes.names())
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == list(schemes.names())
    pictures = re.findall(r"!\[(.+)\]\((diagrams/[a-z0-9-]+\.svg)\)", PAGE)
    assert len(pictures) == len(schemes.names())
    assert all((ROOT / "docs" / file).exists() for _, file in pictures)


def test_dialects_are_of_schemes_that_exist(script: ModuleType) -> None:
    assert set(script.dialects()) <= set(schemes.names())


def test_a_claim_s_verdict_reaches_the_page(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = {"name": "sinkhorn-is-approximate", "verdict": "not reproduced", "sentence": "Rows are off by 0.25."}
    monkeypatch.setattr(script, "results", lambda: {claim["name"]: claim})
    page = script.page()
    assert "(`sinkhorn-is-approximate`): **not reproduced**. Rows are off by 0.25." in page
    row = next(line for line in page.splitlines() if line.startswith("| [mhc-lite]"))
    assert "1 not reproduced" in row
