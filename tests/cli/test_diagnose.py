"""`addnorm diagnose`: folders and factories in, a page and an exit code out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from addnorm.cli import main

FACTORY = """
from torch import nn

class Block(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(16), scale
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        return x + self.scale * self.mlp(self.norm(x))

def net(scale):
    return nn.Sequential(*[Block(scale if i == 3 else 1.0) for i in range(6)], nn.LayerNorm(16))

def sound(): return net(1.0)
def scaled(): return net(50.0)
def line(): return nn.Linear(4, 4)
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(FACTORY, encoding="utf-8")
    return "nets.py"


def test_a_fault_is_told_with_its_place_and_written_as_page_and_json(
    factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", f"{factory}:scaled", "--measures", "quick", "--out", "found"]) == 5
    assert "mis-scaled branch at 3.mlp" in capsys.readouterr().out
    found = json.loads((tmp_path / "found" / "diagnosis.json").read_text(encoding="utf-8"))
    assert [(one["cause"], one["place"]) for one in found["findings"]] == [("mis-scaled branch", "3.mlp")]
    assert "mis-scaled branch" in (tmp_path / "found" / "diagnosis.html").read_text(encoding="utf-8")


def test_a_sound_model_gives_0_and_json_alone(factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", f"{factory}:sound", "--measures", "quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    assert not (tmp_path / "runs").exists()


def test_what_has_no_trunk_is_refused_in_one_line(factory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", f"{factory}:line"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no residual trunk" in line
