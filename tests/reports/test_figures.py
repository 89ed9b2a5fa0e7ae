from __future__ import annotations

import logging
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from addnorm.reports.figures import write_figures
from reports.example_results import example_results

NAMES = ("loss-by-tokens", "loss-by-time", "gradient-by-depth", "rms-by-depth")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("matplotlib", reason="figures need the extra `plot`")
    return write_figures(example_results(), tmp_path_factory.mktemp("figures"))


@pytest.mark.slow
def test_every_figure_is_a_png_and_an_svg(written: list[Path]) -> None:
    folder = written[0].parent
    assert {path.name for path in written} == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    assert sorted(folder.iterdir()) == sorted(written)
    for path in written:
        assert path.stat().st_size > 20_000, path
    assert (folder / "loss-by-time.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    root = ElementTree.parse(folder / "gradient-by-depth.svg").getroot()
    lines = [item for item in root.iter("{http://www.w3.org/2000/svg}g") if item.get("id", "").startswith("line2d_")]
    assert len(lines) >= 2 * 2 * 6  # two depths, two moments, six schemes


@pytest.mark.slow
def test_equal_results_give_equal_figures_whatever_the_users_settings(written: list[Path], tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="figures need the extra `plot`")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        again = write_figures(example_results(json_safe=False), tmp_path)
        assert matplotlib.rcParams["font.size"] == 30
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


def test_without_matplotlib_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it raises ImportError
    with caplog.at_level(logging.WARNING):
        assert write_figures(example_results(), tmp_path) == []
    (record,) = caplog.records
    assert "matplotlib is not installed" in record.message and "\n" not in record.message
    assert not list(tmp_path.iterdir())
