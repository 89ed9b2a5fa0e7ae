"""The page in a real browser, at the width of a phone and of a desk; skipped where there is no Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from addnorm.reports.page import page
from reports.example_results import example_results
from reports.test_page import sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# The page stands in a frame of the wanted width, as a headless window cannot be as narrow as a phone.
PROBE = """<iframe id="frame" style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe><script>
const errors = [];
document.getElementById("frame").onload = () => {{
  const inside = document.getElementById("frame").contentWindow, doc = inside.document;
  inside.onerror = (text) => errors.push(text);
  const key = (node, name) => node.dispatchEvent(new inside.KeyboardEvent("keydown", {{ key: name, bubbles: true }}));
  const plot = doc.querySelector(".plot"), before = plot.getAttribute("aria-valuetext");
  key(plot, "ArrowLeft");
  const map = doc.querySelector(".map svg"), title = () => doc.querySelector(".maps + .readout p").textContent;
  const first = title();
  key(map, "ArrowDown");
  const head = doc.querySelectorAll(".comparison thead button")[2];
  head.click();
  const cells = doc.querySelectorAll(".comparison tbody:first-of-type td[data-key=validation_loss]");
  const losses = [...cells].map((cell) => +cell.dataset.value);
  doc.getElementById("theme").click();
  const report = {{
    scroll: doc.documentElement.scrollWidth, width: inside.innerWidth,
    script: doc.documentElement.classList.contains("js"),
    moved: plot.getAttribute("aria-valuetext") !== before, mapped: title() !== first, losses,
    sorted: head.closest("th").getAttribute("aria-sort"), theme: doc.documentElement.dataset.theme,
    curves: doc.querySelectorAll(".plot .mean").length, maps: doc.querySelectorAll(".map svg").length, errors,
  }};
  const out = document.createElement("pre");
  document.body.append(Object.assign(out, {{ id: "report", textContent: JSON.stringify(report) }}));
}};
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
@pytest.mark.parametrize("width", [360, 1920])
def test_the_page_works_in_a_browser(tmp_path: Path, width: int) -> None:
    report = _seen(PROBE.format(width=width, page=escape(page(example_results()), quote=True)), tmp_path)
    assert report["errors"] == [] and report["script"]
    assert report["scroll"] <= report["width"] == width  # no horizontal scrolling
    assert report["curves"] == 6 and report["maps"] == 6
    assert report["moved"] and report["mapped"], "arrow keys read curves and maps"
    assert report["sorted"] == "ascending" and report["losses"] == sorted(report["losses"])
    assert report["theme"] in ("dark", "light")


WIDTHS = """<script>
const found = {}, frames = [...document.querySelectorAll("iframe")];
let left = frames.length;
for (const frame of frames) frame.onload = () => {
  const doc = frame.contentDocument, box = doc.querySelector("#comparison .scroll");
  const bottom = (name) => doc.querySelector(name).getBoundingClientRect().bottom;
  const card = getComputedStyle(doc.querySelector(".comparison tbody tr:nth-child(2)")).display === "block";
  const sizes = { page: doc.documentElement.scrollWidth, table: box.scrollWidth, room: box.clientWidth };
  found[frame.clientWidth] = { ...sizes, card, chart: bottom("#curves .plot svg"), maps: bottom(".map svg") };
  if (--left) return;
  const out = document.createElement("pre");
  document.body.append(Object.assign(out, { id: "report", textContent: JSON.stringify(found) }));
};
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
@pytest.mark.slow
def test_a_sweeps_table_is_whole_at_every_width_and_the_first_screen_has_curves_and_maps(tmp_path: Path) -> None:
    widths = (390, 1100, 1440, 1920)
    found = _seen("".join(_frame(sweep(), width) for width in widths) + WIDTHS, tmp_path)
    for width in widths:
        seen = found[str(width)]
        assert seen["page"] <= width and seen["table"] <= seen["room"], (width, seen)
    assert found["390"]["card"] and not found["1440"]["card"]
    seen = _seen(_frame(example_results(), 1440) + WIDTHS, tmp_path)["1440"]
    assert seen["chart"] <= 900 and seen["maps"] <= 900


def _frame(results: dict[str, Any], width: int) -> str:
    text = escape(page(results), quote=True)
    return f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{text}"></iframe>'


def _seen(body: str, folder: Path) -> dict[str, Any]:
    """What a page's script reports."""
    probe = folder / "probe.html"
    probe.write_text(body)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=2000,900",
    ]
    words = [str(BROWSER), *flags, "--virtual-time-budget=4000", "--dump-dom", probe.as_uri()]
    dump = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="report">(.*?)</pre>', dump, flags=re.DOTALL)
    assert found, dump[-2000:]
    return json.loads(unescape(found[1]))
