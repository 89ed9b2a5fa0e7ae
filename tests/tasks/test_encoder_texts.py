from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addnorm.data import tokenizer
from addnorm.tasks._encoder_texts import JITTER, LengthBatches, TextFrame, TokenRows

TEXT = "A naïve café, at the café. " * 3


@pytest.fixture(scope="module", params=["byte", "bpe:300"])
def frame(request):
    return TextFrame(tokenizer=tokenizer.build(request.param, [TEXT]))


def test_a_pair_is_framed_and_its_second_text_is_segment_one(frame):
    marks, row = frame.tokenizer.frame, frame.pair("one", "two words", 64)
    assert row.ids[0] == marks.cls
    assert row.ids[-1] == marks.sep
    places = np.flatnonzero(row.special)
    first, second = row.ids[1 : places[1]], row.ids[places[1] + 1 : -1]
    assert frame.tokenizer.decode(first) == "one"
    assert frame.tokenizer.decode(second) == "two words"
    assert row.segments.tolist() == [0] * (places[1] + 1) + [1] * (len(second) + 1)


@given(text=st.text(max_size=40))
def test_no_text_has_the_special_tokens(frame, text):
    marks = frame.tokenizer.frame
    assert not {marks.cls, marks.sep, marks.pad} & set(frame.pieces(text).ids.tolist())


def test_offsets_are_places_in_the_text(frame):
    text = "the café"
    pieces = frame.pieces(text)
    covered = {place for start, stop in pieces.offsets.tolist() for place in range(start, stop)}
    assert covered == set(range(len(text)))
    assert pieces.offsets[-1].tolist()[1] == len(text)


def test_the_limit_holds_and_the_longer_text_is_cut_first(frame):
    row = frame.pair("x" * 200, "ok", 20)
    assert len(row.ids) <= 20
    second = row.ids[np.flatnonzero(row.special)[1] + 1 : -1]
    assert frame.tokenizer.decode(second) == "ok"
    assert len(frame.single("x" * 200, 10).ids) <= 10


def test_a_batch_is_padded_to_its_own_longest(frame):
    rows = TokenRows.of([frame.single(text, 99) for text in ("a", "abcde", "a" * 50)], frame.pad)
    ids, segments = rows.batch([0, 1])
    assert ids.shape == segments.shape == (2, rows.lengths[:2].max())
    assert rows.keep(ids).sum(1).tolist() == rows.lengths[:2].tolist()


def test_evaluation_batches_hold_every_row_once_and_few_tokens():
    rows = TokenRows(ids=tuple(np.zeros(n) for n in range(1, 40)), segments=(), pad=0)
    batches = list(rows.by_length(np.arange(39), tokens=100))
    assert sorted(np.concatenate(batches).tolist()) == list(range(39))
    assert all(len(batch) * rows.lengths[batch].max() <= 100 for batch in batches)


def test_an_epoch_has_no_row_twice_and_little_padding():
    lengths = np.random.default_rng(0).integers(5, 80, 1003)
    batches = LengthBatches(lengths=lengths, seed=3, batch_size=16)
    epoch = [batches.numbers(step) for step in range(len(batches))]
    seen = np.concatenate(epoch)
    assert len(seen) == len(set(seen.tolist())) == 1003 // 16 * 16
    padded = sum(len(numbers) * lengths[numbers].max() for numbers in epoch)
    # In order of length a batch of 16 of a pool of 256 spans 75 / 16 = 5 tokens, with the jitter up to twice that.
    assert padded < lengths[seen].sum() * (1 + 2 * (75 / 16 + JITTER) / 42)
    assert padded < 0.6 * 80 * len(seen)


def test_the_batches_are_a_function_of_seed_and_step():
    lengths = np.arange(1, 101)
    one, other = (LengthBatches(lengths=lengths, seed=seed, batch_size=8) for seed in (0, 1))
    later = LengthBatches(lengths=lengths, seed=0, batch_size=8)
    assert later.numbers(40).tolist() == [one.numbers(step) for step in range(41)][40].tolist()
    assert one.numbers(0).tolist() != other.numbers(0).tolist()
    assert one.numbers(0).tolist() != one.numbers(len(one)).tolist()


def test_fewer_rows_than_a_batch_are_one_batch():
    batches = LengthBatches(lengths=np.array([3, 4, 5]), seed=0, batch_size=8)
    assert sorted(batches.numbers(7).tolist()) == [0, 1, 2]
