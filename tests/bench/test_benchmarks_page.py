"""docs/benchmarks.md says what the newest stored results say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from addnorm import bench

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("page", ROOT / "scripts" / "build_benchmarks_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_newest_results():
    builder = script()
    results = builder.newest()
    if results is None:
        assert not builder.PAGE.exists()
        pytest.skip("nothing is measured yet")
    said = builder.PAGE.read_text(encoding="utf-8")
    assert said == builder.page(results), "run: python scripts/build_benchmarks_page.py"
    stored = json.loads(results.read_text(encoding="utf-8"))
    assert {row["name"] for row in stored["rows"]} == set(bench.names())
    for row in stored["rows"]:
        assert row["threads"] == 1 and not row["quick"] and not row["missing"]


def test_every_figure_of_the_results_stands_on_the_page(tmp_path, monkeypatch):
    builder = script()
    monkeypatch.setattr(builder, "ROOT", tmp_path)
    from addnorm.bench.measure import chosen, run

    file = tmp_path / "benchmarks" / "results" / "2026-01-01-bench.json"
    file.parent.mkdir(parents=True)
    stored = run(chosen(["mhc-memory"], quick=True), file, "addnorm bench mhc-memory --quick")
    assert builder.newest() == file
    text = builder.page(file)
    for figure in stored["rows"][0]["figures"]:
        assert f"| {figure['label']} | {figure['value']['median']:.2f}x |" in text
    assert "../benchmarks/results/2026-01-01-bench.json" in text
