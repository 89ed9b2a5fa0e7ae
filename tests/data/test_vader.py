from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from scripts import build_vader

from addnorm.data.sets import vader
from addnorm.data.texts.records import labels

ROOT = Path(__file__).parents[2]


def parts(splits):
    return splits.train, splits.validation, splits.test


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower())) or text


def test_the_notice_has_the_checksums():
    notice = (ROOT / "NOTICE").read_text()
    assert f"{vader.ARCHIVE_SHA256}  {vader.ARCHIVE}" in notice and build_vader.SDIST_SHA256 in notice


def test_movie_reviews_are_positive_and_negative_in_equal_parts():
    splits = vader.movie_sentiment()
    assert labels(splits) == ("negative", "positive")
    assert [len(part) for part in parts(splits)] == [8_033, 1_004, 1_004]
    for part in parts(splits):
        assert 0.48 < sum(record.label == "positive" for record in part) / len(part) < 0.52  # 0.496 of all are


def test_texts_come_from_four_places():
    splits = vader.text_source()
    assert labels(splits) == ("movie", "news", "product", "tweet")
    assert [len(part) for part in parts(splits)] == [18_809, 2_292, 2_348]
    assert Counter(record.label for record in splits.test)["tweet"] == 404


def test_no_sentence_is_in_two_splits():
    for splits in (vader.movie_sentiment(), vader.text_source()):
        seen = [{words(record.text) for record in part} for part in parts(splits)]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_sentences_of_one_text_are_in_one_split():
    text_of = {rated.text: (rated.source, rated.number.split("_")[0]) for rated in vader.sentences()}
    held = [{text_of[record.text] for record in part} for part in parts(vader.text_source())]
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]


def test_the_build_resolves_entities_and_keeps_the_number():
    assert build_vader.lines("tweet", "7\t-1.25\tgood &amp; bad\r\n\r\n") == ["tweet\t7\t-1.25\tgood & bad"]
