from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addnorm.data.texts.records import LabelledText, Splits, Translation, hold_out, labels
from addnorm.errors import UserError


def texts(count: int, label: str = "a") -> list[LabelledText]:
    return [LabelledText(text=f"{label} text {number}", label=label) for number in range(count)]


def split(records, **choices):
    return hold_out(records, lambda record: record.text, origin="test", **choices)


@given(
    st.lists(st.builds(LabelledText, text=st.text(max_size=3), label=st.sampled_from("ab")), min_size=1, max_size=60),
    st.integers(1, 2),
)
def test_no_record_is_lost_and_no_text_is_in_two_splits(records, parts):
    try:
        splits = split(records, parts=parts)
    except UserError as error:
        assert "too few" in str(error)
        return
    assert sorted(map(repr, (record for part in splits for record in part))) == sorted(map(repr, records))
    texts_of = [{" ".join(record.text.lower().split()) for record in part} for part in splits]
    assert all(not one & other for i, one in enumerate(texts_of) for other in texts_of[:i])


def test_the_same_share_of_each_label_is_held_out():
    train, validation, test = split(texts(200, "a") + texts(40, "b"), share=0.1)
    for held in (validation, test):
        assert sum(record.label == "a" for record in held) == 20
        assert sum(record.label == "b" for record in held) == 4
    assert len(train) == 240 - 48


def test_what_is_held_out_follows_the_texts_and_not_their_order():
    records = texts(100)
    one, other = split(records), split(records[::-1])
    assert [set(map(repr, part)) for part in one] == [set(map(repr, part)) for part in other]
    assert [record.text for record in one[0]] == [r.text for r in records if r in one[0]]


def test_a_rare_label_is_trained_on():
    train, validation, test = split(texts(50, "a") + texts(2, "rare"))
    assert sum(record.label == "rare" for record in train) == 2


def test_an_unknown_label_is_named_with_its_place():
    splits = Splits(origin="mine.tsv", train=(*texts(2, "a"), *texts(2, "b")), validation=(), test=tuple(texts(1, "c")))
    with pytest.raises(UserError, match="label 'c' of test record 1 of mine.tsv is in no training record.* a, b"):
        labels(splits)


def test_labels_are_sorted_and_one_is_not_enough():
    splits = Splits(origin="x", train=(*texts(1, "b"), *texts(1, "a")), validation=(), test=())
    assert labels(splits) == ("a", "b")
    with pytest.raises(UserError, match="every training record of x has the label 'a'"):
        labels(Splits(origin="x", train=tuple(texts(3)), validation=(), test=()))


def test_the_fingerprint_tells_records_and_splits_apart_and_not_origins():
    one, other = Translation(source="a", target="b"), Translation(source="a", target="B")
    variants = [((one,), (), (other,)), ((one, other), (), ()), ((other,), (), (one,)), ((one,), (other,), ())]
    made = [Splits(origin="x", train=a, validation=b, test=c).fingerprint() for a, b, c in variants]
    assert len(set(made)) == 4
    assert Splits(origin="y", train=(one,), validation=(), test=(other,)).fingerprint() == made[0]
