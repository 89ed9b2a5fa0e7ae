from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree

import pytest

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.reports.diagrams import draw, parse, sentence

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawn: str) -> list[str]:
    return ["".join(item.itertext()) for item in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


def diagram_of(name: str) -> str:
    """As drawn for the scheme's defaults: a wrapper's diagram depends on what it wraps."""
    return getattr(schemes.get(name)(), "diagram", schemes.get(name).diagram)


@pytest.mark.parametrize("name", schemes.names())
def test_every_scheme_of_the_catalogue_can_be_drawn(name: str) -> None:
    assert "diagram" in vars(schemes.get(name)), "a scheme of the catalogue says what its path is"
    words = diagram_of(name)
    root = ElementTree.fromstring(draw(words, name))  # well-formed
    assert root.tag == f"{SVG}svg"
    assert name in root.attrib["aria-label"]
    labels = {word.label.replace("_", "") for word in parse(words) if word.label and word.kind != "streams"}
    assert labels <= set(texts(draw(words, name)))


@pytest.mark.parametrize("name", schemes.names())
def test_nothing_is_drawn_outside_of_the_picture(name: str) -> None:
    root = ElementTree.fromstring(draw(diagram_of(name), name))
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    assert width <= 320, "a phone is 360 pixels wide"
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.attrib[side]) for side in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width and 0 <= float(text.attrib["y"]) <= height


def test_the_skip_keeps_its_boxes_and_the_branch_its_own() -> None:
    root = ElementTree.fromstring(draw("fork skip:α sublayer add box:n", "deep-norm"))
    middle = {"".join(t.itertext()): float(t.attrib["x"]) for t in root.iter(f"{SVG}text")}
    assert middle["α"] == middle["n"] < middle["sublayer"]


def test_parallel_streams_are_as_many_lines_as_there_are() -> None:
    def dots(words: str) -> int:
        return sum(c.attrib["r"] == "2.5" for c in ElementTree.fromstring(draw(words, "x")).iter(f"{SVG}circle"))

    assert dots("streams:4 fork mix:H_pre sublayer add") == 4
    assert dots("fork sublayer add") == 1


def test_a_branch_over_the_history_is_appended_where_it_is_not_added() -> None:
    appended, added = draw("history mix:a sublayer", "x"), draw("history mix:a sublayer add", "x")
    assert appended != added
    assert draw("history fork mix:a sublayer", "x") == appended
    assert "earlier outputs" in texts(appended)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fork boxx:n sublayer add", "did you mean 'box'"),
        ("fork box sublayer add", "write box:LABEL"),
        ("sublayer add", "has no open 'fork'"),
        ("skip:a sublayer", "has no open 'fork'"),
        ("streams:many fork sublayer add", "write streams:4"),
        ("fork:x sublayer add", "write fork"),
    ],
)
def test_a_word_that_cannot_be_drawn_is_refused_with_what_to_write(words: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        draw(words, "mine")


def test_labels_cannot_break_out_of_the_drawing() -> None:
    drawn = draw('box:<script>&" sublayer', '"><script>')
    root = ElementTree.fromstring(drawn)
    assert not list(root.iter(f"{SVG}script")) and "<script" not in drawn


def test_the_sentence_says_every_word() -> None:
    said = sentence("streams:4 fork skip:H_res mix:H_pre box:n sublayer scale:H_post add")
    for part in ("4 parallel streams", "H_res", "H_pre", "sublayer", "times H_post", "added"):
        assert part in said


def test_words_are_plain_data() -> None:
    assert [dataclasses.astuple(word) for word in parse("fork sublayer add")] == [
        ("fork", ""),
        ("sublayer", ""),
        ("add", ""),
    ]
