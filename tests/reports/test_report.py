from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from addnorm.reports import report
from addnorm.reports.report import write_reports
from reports.example_results import example_results


def test_a_failure_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(report, "write_figures", lambda results, folder: [])
    broken = example_results()
    del broken["title"]
    with pytest.raises(KeyError):
        write_reports(broken, tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"


@pytest.mark.slow
def test_all_files_are_written_and_named_without_torch(tmp_path: Path) -> None:
    stored = tmp_path / "results.json"
    stored.write_text(json.dumps(example_results()))
    code = (
        "import json, sys, pathlib\n"
        "from addnorm.reports.report import write_reports\n"
        "from addnorm.reports.terminal import ComparisonTable\n"
        f"out = pathlib.Path({str(tmp_path / 'out')!r})\n"
        f"for path in write_reports(json.load(open({str(stored)!r})), out): print(path.relative_to(out))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True, text=True)
    named = done.stdout.split()
    assert named[0] == "results.csv" and named[-1] == "report.html"
    there = (tmp_path / "out").rglob("*")
    assert sorted(named) == sorted(str(path.relative_to(tmp_path / "out")) for path in there if path.is_file())
