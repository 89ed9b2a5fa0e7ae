"""What `addnorm compare` says of the folder that it writes to; training and measuring are left out."""

from __future__ import annotations

import json

import pytest

from addnorm.reports import report
from addnorm.studies import compare, dry_run
from command_line import here


@pytest.fixture
def untrained(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "estimate", lambda spec: [])
    monkeypatch.setattr(dry_run, "total_wall_s", lambda rows, spec: 1.0)

    def trained(spec, out, **_):
        out.mkdir()
        (out / "spec.json").write_text("{}")
        return {}

    monkeypatch.setattr(compare, "compare", trained)


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_dry_run_warns_of_a_folder_that_the_comparison_would_be_refused(untrained, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for out, said in (("taken", "taken exists already"), ("file", "file is a file")):
        seen = here("compare", "--out", out, "--dry-run", "--json")
        assert seen.code == 0 and json.loads(seen.out)["arms"] == []
        assert seen.err.startswith("addnorm: warning: ") and said in seen.err and len(seen.err.splitlines()) == 1
    assert here("compare", "--out", "new", "--dry-run", "--json").err == ""
    assert not (tmp_path / "new").exists()


def test_a_dry_run_of_a_resume_warns_of_another_comparison(untrained, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "spec.json").write_text(json.dumps({"seeds": 7}))
    seen = here("compare", "--seeds", "2", "--out", "other", "--resume", "--dry-run", "--json")
    assert "holds another comparison: seeds is 7 there and 2 here" in seen.err


def test_ctrl_c_while_the_report_is_written_says_how_to_go_on(untrained, monkeypatch):
    monkeypatch.setattr(report, "write_reports", interrupt)
    seen = here("compare", "--out", "arms")
    assert seen.code == 130
    assert seen.err.splitlines()[-1].endswith("Add to the same command: --resume --out arms")


def test_ctrl_c_before_anything_is_written_leaves_nothing_to_resume(untrained, monkeypatch):
    monkeypatch.setattr(compare, "compare", interrupt)
    seen = here("compare", "--out", "arms")
    assert seen.code == 130 and "--resume" not in seen.err
