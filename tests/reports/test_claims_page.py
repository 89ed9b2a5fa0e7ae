"""The page of claims: whole without scripts, and folded, filtered and remembered with them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from addnorm.reports.claim_chart import NARROW, WIDE, claim_chart
from addnorm.reports.claims_page import claims_page

STORED = json.loads((Path(__file__).parents[2] / "docs" / "claims.json").read_text(encoding="utf-8"))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# A person's steps, one after the other; each is told what is then to be seen.
STEPS = """
const found = [], errors = [];
const frame = document.getElementById("frame"), wait = (ms) => new Promise((done) => setTimeout(done, ms));
frame.onload = async () => {
  const inside = frame.contentWindow, doc = inside.document;
  inside.onerror = (text) => errors.push(text);
  const claims = [...doc.querySelectorAll(".claim")];
  const shown = () => claims.filter((claim) => claim.getClientRects().length).map((claim) => claim.id);
  const note = async (step) => {
    await wait(60);
    found.push({ step, shown: shown(), open: claims.filter((claim) => claim.open).map((claim) => claim.id),
      hash: inside.location.hash, said: doc.getElementById("shown").textContent,
      none: !doc.getElementById("none").hidden, fold: doc.getElementById("fold").textContent,
      counts: [...doc.querySelectorAll(".choice .count")].map((count) => +count.textContent),
      width: doc.documentElement.scrollWidth, height: doc.documentElement.scrollHeight });
  };
  const put = (id, value) => {
    doc.getElementById(id).value = value;
    doc.getElementById(id).dispatchEvent(new inside.Event("input", { bubbles: true }));
  };
  await note("first");
  doc.querySelector('[value="not reproduced"]').click();
  await note("verdict");
  put("scheme", "b2t");
  await note("scheme");
  doc.querySelector(`#${shown()[0]} summary`).click();
  await note("opened");
  doc.querySelector("[type=reset]").click();
  await note("reset");
  put("text", "SINKHORN permutations");
  await note("text");
  put("text", "no such words");
  await note("none");
  put("text", "");
  doc.getElementById("fold").click();
  await note("unfolded");
  doc.getElementById("fold").click();
  await note("folded");
  inside.dispatchEvent(new inside.Event("beforeprint"));
  await note("print");
  inside.dispatchEvent(new inside.Event("afterprint"));
  await note("printed");
  inside.location.hash = "#verdict=reproduced&scheme=keel&claim=keel-skip-path-gain";
  await note("address");
  inside.location.hash = "#keel-skip-path-gain";
  await note("name");
  inside.location.hash = "#100%";
  await note("nothing");
  doc.getElementById("theme").click();
  const theme = doc.documentElement.dataset.theme, kept = inside.localStorage.getItem("addnorm-theme");
  const narrow = getComputedStyle(claims[0].querySelector(".chart.narrow")).display;
  document.body.append(Object.assign(document.createElement("pre"), { id: "report",
    textContent: JSON.stringify({ found, errors, theme, kept, narrow }) }));
};
"""


def in_browser(folder: Path, width: int) -> dict[str, Any]:
    """What the steps found in a frame of this width; a headless window cannot be as narrow as a phone."""
    (folder / "claims.html").write_text(claims_page(STORED), encoding="utf-8")
    frame = f'<iframe id="frame" src="claims.html" style="width:{width}px;height:800px;border:0"></iframe>'
    (folder / "probe.html").write_text(f"<!doctype html><body>{frame}<script>{STEPS}</script>", encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    profile = f"--user-data-dir={folder / 'profile'}"
    address = (folder / "probe.html").as_uri()
    command = [str(BROWSER), *flags, profile, "--virtual-time-budget=10000", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    report = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert report, done.stderr[-1000:]
    return json.loads(unescape(report[1]))


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_folded_filtered_and_remembered(tmp_path: Path, width: int) -> None:
    report = in_browser(tmp_path, width)
    assert report["errors"] == []
    at = {item["step"]: item for item in report["found"]}
    everything = [item["name"] for item in STORED["claims"]]
    failed = [item["name"] for item in STORED["claims"] if item["verdict"] == "not reproduced"]
    assert at["first"]["shown"] == everything and at["first"]["open"] == []
    assert all(item["width"] <= width for item in report["found"]), "no horizontal scrolling, folded or not"
    assert at["first"]["height"] < 5_000  # one line a claim, two on a phone
    assert at["verdict"]["shown"] == failed and at["verdict"]["hash"] == "#verdict=not+reproduced"
    assert at["verdict"]["said"] == f"{len(failed)} of {len(everything)} claims"
    of_b2t = [item["name"] for item in STORED["claims"] if "b2t" in item["about"]]
    assert at["scheme"]["shown"] == of_b2t and at["scheme"]["counts"][0] == len(of_b2t)
    assert at["opened"]["open"] == of_b2t and at["opened"]["hash"].endswith(f"&scheme=b2t&claim={of_b2t[0]}")
    assert at["reset"]["shown"] == everything and at["reset"]["hash"] in ("", "#")
    assert "sinkhorn-is-approximate" in at["text"]["shown"] and len(at["text"]["shown"]) < 5
    assert at["none"]["shown"] == [] and at["none"]["none"]
    assert at["unfolded"]["open"] == everything and at["unfolded"]["fold"] == "Close all"
    assert at["folded"]["open"] == [] == at["printed"]["open"] and at["print"]["open"] == everything
    assert at["address"]["open"] == ["keel-skip-path-gain"] and 1 < len(at["address"]["shown"]) < len(everything)
    assert at["name"]["shown"] == everything and at["name"]["open"] == ["keel-skip-path-gain"]
    assert report["theme"] == report["kept"] in ("dark", "light")
    assert report["narrow"] == ("block" if width == 390 else "none")


def test_without_scripts_every_claim_stands_open_and_nothing_offers_to_filter() -> None:
    text = claims_page(STORED)
    assert text.count('<details class="claim"') == text.count(" open>") == len(STORED["claims"])
    assert re.search(r'<form id="filter"[^>]* hidden>', text) and re.search(r'id="theme" hidden>', text)
    for item in STORED["claims"]:
        assert f'id="{item["name"]}"' in text


def test_a_verdict_is_said_by_sign_and_word_wherever_it_stands() -> None:
    marks = re.findall(r'<span class="mark \w+">(.*?)</span>(.*?)</span>', claims_page(STORED))
    assert len(marks) > 2 * len(STORED["claims"])
    for sign, word in marks:
        assert sign.endswith(("✓ ", "✗ ", "? ")) and len(word) > 8


@pytest.mark.parametrize("item", STORED["claims"], ids=lambda item: item["name"])
def test_all_of_a_figure_lies_within_it_on_a_desk_and_on_a_phone(item: dict[str, Any]) -> None:
    for size in (WIDE, NARROW):
        drawn = ElementTree.fromstring(claim_chart(item, size))
        _, _, width, height = map(float, drawn.get("viewBox", "").split())
        assert width == size.width
        for text in drawn.iter("{http://www.w3.org/2000/svg}text"):
            # 7.2 units a letter at 12 pixels, of the widest system font.
            long = 7.2 * len(text.text or "")
            left = float(text.get("x", "nan")) - long * {"end": 1, "middle": 0.5}.get(text.get("text-anchor", ""), 0)
            assert left > -long * 0.2 and left + long < width + 12, text.text
            assert 0 < float(text.get("y", "nan")) <= height
        columns = [float(use.get("x", "nan")) for use in drawn.iter("{http://www.w3.org/2000/svg}use")]
        assert min(columns) > 0 and max(columns) < width


@pytest.mark.parametrize(("seeds", "given"), [(2, False), (3, True)])
def test_intervals_are_given_from_three_seeds_on(seeds: int, given: bool) -> None:
    [stored] = [one for one in STORED["claims"] if one["name"] == "post-norm-stalls-at-depth"]
    figure = {**stored["figure"], "mean": 1.5, "half_width": 0.25, "n": seeds}
    lines = [{**line, "y": [[1.0, 2.0, 3.0][:seeds] for _ in line["x"]]} for line in stored["lines"]]
    page = claims_page({**STORED, "claims": [{**stored, "figure": figure, "lines": lines}]})
    assert ("1.5 ± 0.25 (n =" in page) == given
    assert ('<path class="range" d="M' in page) == given
