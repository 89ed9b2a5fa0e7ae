"""The tutorial: pages and notebooks agree, its code runs, and its text says what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scripts import build_tutorial
from scripts.build_tutorial import LANGUAGES, ROOT, SOURCE, cells, made, stored_run

DOCS = ROOT / "docs"
STORED = stored_run()
RESULTS = STORED["results"]


def _page(language: str) -> str:
    return (DOCS / f"{LANGUAGES[language]}.md").read_text(encoding="utf-8")


def _notebook(language: str) -> dict[str, Any]:
    return json.loads((DOCS / f"{LANGUAGES[language]}.ipynb").read_text(encoding="utf-8"))


def _quotes(language: str) -> list[str]:
    return re.findall(r"\{\{(.+?)\}\}", (SOURCE / f"{language}.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", made(STORED), ids=lambda path: path.name)
def test_pages_and_notebooks_are_made_from_the_source(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == made(STORED)[path], "run python scripts/build_tutorial.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_notebook_show_the_same_code_and_the_same_prints(language: str) -> None:
    page = _page(language)
    code = [cell for cell in _notebook(language)["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) + "\n" for cell in code] == re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    streams = [out["text"] for cell in code for out in cell["outputs"] if out["output_type"] == "stream"]
    assert all("".join(text).rstrip() in page for text in streams)


def test_both_languages_show_every_cell_once_in_the_same_places() -> None:
    orders = [
        [
            piece
            for piece in re.findall(r"^(?:@cell (\S+)|(#+) )", (SOURCE / f"{language}.md").read_text(), re.MULTILINE)
        ]
        for language in LANGUAGES
    ]
    assert orders[0] == orders[1]
    assert [name for name, _ in orders[0] if name] == list(cells())


def test_both_languages_quote_the_same_numbers() -> None:
    assert sorted(_quotes("en")) == sorted(_quotes("zh-CN"))


def test_the_text_says_what_was_measured() -> None:
    chain, placed = RESULTS["chain"], RESULTS["places-compared"]
    assert chain["with the skip"]["48"] < chain["with the skip"]["8"]
    assert chain["He's weights"]["48"] > 10 * chain["He's weights"]["8"]
    assert abs(chain["torch's default weights"]["24"] - 2.3026) < 0.001  # ln 10
    assert RESULTS["places"]["add, then ReLU"]["negative"] == 0 < RESULTS["places"]["Pre-LN"]["negative"]
    assert RESULTS["spread"]["without"] < 1e-3 < 0.5 < RESULTS["spread"]["with"]
    assert RESULTS["dropout"]["difference"].startswith("+")
    wrong, right = RESULTS["norm over sequence"], RESULTS["norm over features"]
    assert wrong["whole"] < wrong["honest"] and right["whole"] == right["honest"] < wrong["honest"]
    words = {arm: row["verdict"] for name in ("places-compared", "composed") for arm, row in RESULTS[name].items()}
    assert {words[arm] for arm in ("plain 4", "plain 8", "post-norm 8", "pre-post-norm 8")} == {"does not train"}
    assert {words[arm] for arm in ("post-norm 2", "post-norm 4")} == {"better"}
    assert {words[arm] for arm in ("plain 1", "plain 2", "pre-post-norm 2")} == {"not decided"}
    assert float(placed["plain 2"]["difference"].split()[0]) > float(placed["plain 2"]["difference"].split()[2])
    norms = {name: RESULTS[name]["pre-norm(norm=batch) 2"] for name in RESULTS if "a step" in name}
    assert [row["verdict"] for row in norms.values()] == ["worse", "too short to tell", "better"]
    assert float(norms["text, 1 row a step"]["loss"].split()[0]) > RESULTS["unigram"]


@pytest.mark.slow
def test_all_cells_run_one_after_the_other_and_show_what_they_showed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fiftieth of the steps and one seed; what trains nothing gives the stored numbers again."""
    monkeypatch.setattr("addnorm.studies.compare.cores", lambda: 1)  # a second worker costs a second start
    found = build_tutorial.run("SEEDS, EFFORT = 1, 0.02", tmp_path)
    assert list(found["printed"]) == list(cells())
    drawn = {path.stem for path in (DOCS / "tutorial").glob("*.png")}
    assert {path.stem for path in tmp_path.glob("*.png")} == drawn
    for name in ("slope", "spread", "identity", "places", "leak"):
        _agree(found["results"][name], RESULTS[name])
    for name in ("mistakes", "feedforward", "decoder"):
        assert found["printed"][name] == STORED["printed"][name]
    differences = re.findall(r"difference.*?: (\S+)", found["printed"]["attention"] + found["printed"]["block"])
    assert len(differences) == 3 and max(map(float, differences)) < 1e-5  # float32's rounding


def _agree(found: dict[str, Any], stored: dict[str, Any]) -> None:
    assert found.keys() == stored.keys()
    for name, value in found.items():
        if isinstance(value, dict):
            _agree(value, stored[name])
        elif value > 1e-5:  # below it is rounding
            assert value == pytest.approx(stored[name], rel=0.02)
