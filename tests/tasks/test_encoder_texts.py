from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from addnorm.config import RunConfig
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.pretrained_tokenizer import PretrainedTokenizer
from addnorm.tasks.classification import Classification
from addnorm.tasks.text.encoder_reader import EncoderReader, encoded
from addnorm.tasks.text.encoder_texts import JITTER, LengthBatches, TextFrame, TokenRows, real
from addnorm.tasks.text.targets import Labels

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
    assert real(segments)[0].sum(1).tolist() == rows.lengths[:2].tolist()


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


WORDS = ("the", "cat", "sat", "[CLS]", "[SEP]", "[UNK]")


def without_pad() -> PretrainedTokenizer:
    """A tokenizer of whole words that has no [PAD]: number 0 is a word."""
    model = {"type": "WordLevel", "vocab": {word: number for number, word in enumerate(WORDS)}, "unk_token": "[UNK]"}
    mark = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": WORDS.index(word), "content": word} | mark for word in WORDS[3:]]
    whole = {"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    return PretrainedTokenizer(json.dumps(whole))


def test_a_word_with_the_number_of_the_padding_is_no_padding():
    frame = TextFrame(tokenizer=without_pad())
    rows = TokenRows.of([frame.single(text, 9) for text in ("the cat", "the cat sat the the")], frame.pad)
    keep, kinds = real(rows.batch([0, 1])[1])
    assert keep.tolist() == [[True] * 4 + [False] * 3, [True] * 7]
    assert kinds.tolist() == [[0] * 7] * 2


def test_an_answer_does_not_depend_on_what_fills_its_row():
    task, labels = Classification(), Labels(names=("a", "b"))
    reader = EncoderReader(task, without_pad(), labels)
    model = reader.build(RunConfig(d_model=16, num_heads=2, num_layers=2)).eval()
    alone = encoded(reader.frame, False, (("the cat the",),), 16)
    beside = encoded(reader.frame, False, (("the cat the",), ("the the sat cat the the the",)), 16)
    one, two = reader.outputs(model, alone.batch([0])), reader.outputs(model, beside.batch([0, 1]))
    torch.testing.assert_close(one[0], two[0])
    other = encoded(reader.frame, False, (("cat the",),), 16)
    assert not torch.allclose(one[0], reader.outputs(model, other.batch([0]))[0])  # the word counts


@pytest.mark.parametrize("word", ["[PAD]", "[SEP]", "[CLS]", "[MASK]", "[UNK]"])
def test_the_words_of_a_special_token_are_text(word):
    tokens = PretrainedTokenizer.of("minilm")
    ids, offsets = tokens.encode_places(f"see {word} here")
    assert not {*tokens.special_ids.values()} & {*ids.tolist()}
    assert tokens.decode(ids) == f"see [ {word[1:-1].lower()} ] here"
    covered = {place for start, stop in offsets.tolist() for place in range(start, stop)}
    assert covered == {place for place, letter in enumerate(f"see {word} here") if letter != " "}
