from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import pytest

from addnorm.reports.mathml import equation
from addnorm.reports.page import page
from addnorm.reports.page_data import MEASURES
from addnorm.reports.rate_chart import rate_charts
from addnorm.reports.verdict_lines import verdict_lines
from addnorm.studies.spec import CompareConfig
from addnorm.studies.verdict import NOT_ASKED
from reports.example_results import example_results

NASTY = '<img src=x onerror=alert(1)> & "q" \'</script><!--'


class Reader(HTMLParser):
    """Collects tags, table cells by arm, headings, and the data of the scripts."""

    VOID = {"meta", "link", "br", "input", "img"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: dict[str, dict[str, dict[str, str | None]]] = {}
        self.headings: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.data = ""
        self.arm = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))
        if tag == "tr":
            self.arm = named.get("data-arm") or ""
        if tag == "td" and self.arm:
            self.cells.setdefault(self.arm, {})[named.get("data-key") or "verdict"] = named

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            tag, text = self.headings[-1]
            self.headings[-1] = (tag, text + data)
        if self.open and self.open[-1] == "script" and self.tags[-1][1].get("id") == "data":
            self.data += data


@pytest.fixture(scope="module")
def text() -> str:
    return page(example_results())


@pytest.fixture(scope="module")
def read(text: str) -> Reader:
    return Reader(text)


def test_the_page_is_below_half_a_megabyte(text: str) -> None:
    assert len(text.encode()) < 600_000  # of which 94 kB are the formulas of 72 cards


def test_equal_results_give_equal_pages(text: str) -> None:
    assert page(example_results()) == text
    assert page(example_results(json_safe=False)) == text  # straight from memory, with real infinities


def test_nothing_is_loaded_from_anywhere(text: str, read: Reader) -> None:
    for tag, attributes in read.tags:
        for name in ("src", "srcset", "data", "poster", "action", "xlink:href"):
            assert name not in attributes, (tag, name)
        if tag == "link":
            assert attributes["href"] == "data:,"
        if tag == "a":
            assert re.match(r"#|https://arxiv\.org/abs/", attributes["href"] or "")
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch", "#live-clip"} | set(
        re.findall(r"url\((#clip-[^)]*)\)", text)
    )
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|importScripts)\b", text)
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in read.tags)


def test_every_number_of_the_table_is_the_stored_one(read: Reader) -> None:
    results = example_results()
    assert set(read.cells) == {arm["id"] for arm in results["arms"]}
    for arm in results["arms"]:
        cells = read.cells[arm["id"]]
        for key in ("validation_loss", "difference", "loss_at_equal_time", "difference_at_equal_time", "speed_ratio"):
            stored = arm[key] or {"mean": None, "half_width": None}
            assert cells[key]["data-value"] == ("" if stored["mean"] is None else str(stored["mean"]))
            assert cells[key].get("data-half-width") == (
                None if stored["half_width"] is None else str(stored["half_width"])
            )
        assert cells["n"]["data-value"] == str(arm["validation_loss"]["n"])
        assert float(cells["activation_ratio"]["data-value"] or "") == arm["activation_ratio"]
        assert float(cells["parameters"]["data-value"] or "") == arm["parameters"]


def test_the_verdicts_come_first_and_the_sections_have_headings(text: str, read: Reader) -> None:
    results = example_results()
    assert read.headings[0] == ("h1", results["title"])
    assert [name for tag, name in read.headings if tag == "h2"] == [
        "Learning curves",
        "Gradients through depth",
        "Answers",
        "Comparison",
        "Schemes",
        "Method",
    ]
    assert text.index('class="verdict-lines"') < text.index('id="curves"')
    for item in results["answers"]:
        assert ("h3", item["question"]) in read.headings
        assert item["answer"] in text


def test_every_scheme_has_its_equation_diagram_reference_and_verdicts(text: str) -> None:
    for arm in example_results()["arms"]:
        card = text[text.index(f'<article class="card"><h3>{arm["scheme"]}</h3>') :]
        card = card[: card.index("</article>")]
        assert equation(arm["equation"]) in card
        assert 'class="diagram"' in card
        assert "https://arxiv.org/abs/" in card
        assert arm["verdict"] in card


def test_every_drawing_is_well_formed(text: str) -> None:
    still = text[: text.index('<script type="application/json"')]
    drawings = re.findall(r"<svg.*?</svg>", still, flags=re.DOTALL)
    assert len(drawings) > 30
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_the_curves_are_there_without_scripts(text: str) -> None:
    still = text[: text.index('<script type="application/json"')]
    for layers in (2, 24):
        for axis in ("training tokens", "seconds of training"):
            assert f'aria-label="Validation loss against {axis} at {layers} layers: ' in still
    for arm in example_results()["arms"]:
        assert f">{arm['scheme']}" in still
    assert "post-norm (diverged)" in still


def test_hostile_text_stays_text() -> None:
    results = example_results()
    results["title"] = NASTY
    results["environment"]["cpu"] = NASTY
    results["spec"][NASTY] = NASTY
    results["answers"][0] = {"question": NASTY, "answer": NASTY, "figures": {}}
    results["notes"] = [NASTY]
    results["failures"] = [{"run": NASTY, "error": NASTY}]
    for arm in results["arms"][1:3]:
        for key in ("scheme", "title", "equation", "reference", "diagram", "verdict_text", "verdict", "id"):
            arm[key] = NASTY
    read = Reader(page(results))
    tags = [tag for tag, _ in read.tags]
    assert "img" not in tags
    assert tags.count("script") == 2
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert ("h1", NASTY) in read.headings
    assert NASTY in [arm["label"] for arm in json.loads(read.data)["arms"]]


def test_the_scripts_have_the_curves_and_the_signals(read: Reader) -> None:
    data, results = json.loads(read.data), example_results()
    assert list(data["measures"]) == list(MEASURES) and data["left_out"] == []
    for drawn, arm in zip(data["arms"], results["arms"], strict=True):
        stored = arm["signals"]["state_grad_norm"]
        assert len(drawn["signals"]["state_grad_norm"]) == len(stored)
        if isinstance(stored[0][0], float):
            assert drawn["signals"]["state_grad_norm"][0][0] == pytest.approx(
                stored[0][0], rel=1e-3
            )  # four digits kept
        assert len(drawn["seeds"]["tokens"]) == len(arm["curves"])


def test_a_very_large_comparison_leaves_signals_out_and_says_so() -> None:
    results = example_results()
    deep = [arm for arm in results["arms"] if arm["layers"] == 24]
    for turn in range(1, 12):
        results["arms"] += [{**arm, "scheme": f"{arm['scheme']}-{turn}", "id": f"{arm['id']}-{turn}"} for arm in deep]
    text = page(results)
    assert len(text.encode()) < 600_000  # of which 94 kB are the formulas of 72 cards
    data = json.loads(Reader(text).data)
    assert data["left_out"] and len(data["measures"]) < len(MEASURES)
    assert len(data["arms"]) == len(results["arms"])


def minimal(results: dict[str, Any]) -> dict[str, Any]:
    """The least that a comparison stores: no run of one arm ended, nothing optional is there."""
    for key in ("answers", "environment", "data", "created", "wall_s", "failures", "spec"):
        results.pop(key)
    nothing = {"mean": "nan", "half_width": None, "n": 0}
    results["arms"][1] |= {
        "validation_loss": nothing,
        "difference": None,
        "loss_at_equal_time": nothing,
        "difference_at_equal_time": None,
        "speed_ratio": None,
        "activation_ratio": "nan",
        "parameters": 0,
        "curves": [],
        "signals": {"steps": [], **{name: [] for name in MEASURES}},
        "verdict": "does not train",
        "diagram": "a-word-of-tomorrow",
    }
    return results


def test_missing_parts_leave_a_page_that_stands() -> None:
    text = page(minimal(example_results()))
    read = Reader(text)
    assert "a-word-of-tomorrow" in text
    assert json.loads(read.data)["arms"][1]["mean"]["tokens"] == []


def test_the_notes_of_the_study_are_shown() -> None:
    results = example_results()
    results["notes"] = ["All arms share a learning rate."]
    assert "All arms share a learning rate." in page(results)


def test_the_command_has_the_flags_that_differ_from_the_defaults() -> None:
    results = example_results()
    changed = {"layers": (3,), "schemes": ("pre-norm", "layer-scale(init=0.1)"), "bias": False}
    results["spec"] = asdict(CompareConfig(**changed))
    assert "addnorm compare --no-bias --schemes pre-norm &#x27;layer-scale(init=0.1)&#x27; --layers 3</code>" in page(
        results
    )


def test_what_a_comparison_does_not_ask_stands_nowhere() -> None:
    results = example_results()
    results["answers"] += [
        {"question": "Where should the norm go?", "answer": f"{NOT_ASKED}: it needs two.", "figures": {}}
    ]
    assert "Where should the norm go?" not in page(results)


def test_each_depth_has_a_line_of_verdicts_in_words_and_shapes() -> None:
    lines = verdict_lines(example_results())
    deep, shallow = lines.split("<li><b>")[1:]
    assert deep.startswith("24 layers") and shallow.startswith("2 layers")
    for group in re.findall(r"<li>(<span class=.*?)</li>", deep + shallow):
        assert re.match(r'<span class="verdict [a-z]+"><svg[^>]*><path[^>]*/></svg>[a-z ]+</span>', group), group
    assert re.search(r"does not train</span> <span>post-norm</span>, <span>plain</span>", deep)
    assert "<span>mhc −0.022</span>" in deep and "<span>pre-norm" not in lines


def sweep() -> dict[str, Any]:
    """The example at three learning rates, of which the largest diverges for one scheme."""
    results = example_results()
    arms = []
    for rate, worse in ((0.001, 0.2), (0.004, 0.0), (0.016, 0.1)):
        for arm in results["arms"]:
            stored = dict(arm["validation_loss"])
            stored["mean"] = "inf" if rate == 0.016 and arm["scheme"] == "plain" else float(stored["mean"]) + worse
            name = f"{arm['scheme']}-L{arm['layers']}-lr{rate:g}"
            arms.append({**arm, "id": name, "learning_rate": rate, "validation_loss": stored})
    return {**results, "arms": arms}


def test_a_sweep_is_drawn_over_its_rates_with_the_best_of_each_scheme_ringed() -> None:
    assert rate_charts(example_results()) == ""
    drawn = rate_charts(sweep())
    assert drawn.count('class="chart"') == 2  # one a depth
    first = drawn[: drawn.index("</figure>")]
    assert first.count("<circle") == 6 and first.count('class="mean"') == 6  # schemes
    assert "<b>pre-norm</b> best at 0.004 with 2.353" in first
    assert first.count("l10,10m0,-10l-10,10") == 1  # the rate at which plain diverges
    for rate in ("0.001", "0.004", "0.016"):
        assert f">{rate}</text>" in first


def test_the_load_of_the_machine_stands_beside_the_speeds() -> None:
    results = example_results()
    assert "the load of the machine was not recorded" in page(results)
    results["load"] = [{"before": 1.9, "after": 3.2, "cores": 2, "workers": 2}]
    text = page(results)
    assert "load average 1.9 before the first, 3.2 after the last" in text and "speeds may be off" in text
