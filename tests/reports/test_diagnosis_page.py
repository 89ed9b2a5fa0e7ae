"""The page of a diagnosis holds all that was found, runs nothing that a name holds, and asks nobody for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import addnorm
from addnorm.reports.diagnosis_page import diagnosis_page
from diagnosis import zoo

MARKUP = '<img src=x onerror="alert(1)">'


def page() -> str:
    model = zoo.seeded("skip_dropped", "pre", 8, zoo.Place(4, "attention"))
    zoo.FAULTS["branch_times_50"][1](model, zoo.Place(6, "feedforward"))
    model.add_module(MARKUP, zoo.Twice(model.norm))
    found = addnorm.diagnose(model, zoo.batch(), targets=zoo.batch(seed=1)).to_dict()
    found["trunks"][0]["trunk"]["evidence"] += MARKUP
    return diagnosis_page(found, decode=lambda token: f"{MARKUP}{token}")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "link", "path", "rect", "circle", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()


def test_the_page_holds_findings_drawing_curves_map_and_lens_and_no_markup_of_names_runs() -> None:
    text = page()
    for part in ("2 faults found", "dropped skip", "mis-scaled branch", "layers.6.feedforward", "Logit lens"):
        assert part in text
    assert "dropped skip in front of 0" in text
    assert "map-of-depths" in text
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and "img" not in tags.seen and tags.seen.count("script") == 1
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)


def test_a_sound_model_says_so() -> None:
    text = diagnosis_page(addnorm.diagnose(zoo.Net("pre", 6), zoo.batch(), measures="quick").to_dict())
    assert "Nothing wrong was found" in text and "no loss was given" in text
