from __future__ import annotations

import math
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addnorm.data.sets import shakespeare
from addnorm.data.texts.text import joined
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import BPETokenizer, ByteTokenizer, bits_per_byte, build, bytes_per_token, load
from addnorm.errors import UserError

TRAIN = "The quality of mercy is not strained,\nIt droppeth as the gentle rain from heaven\n\n" * 30
VALIDATION = "Upon the place beneath: it is twice blest;\n  It blesseth him that gives and him that takes\n" * 3


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return BPETokenizer.train([TRAIN], 300)


@given(st.text())
def test_bytes_round_trip_exactly(text):
    ids = ByteTokenizer().encode(text)
    assert ids.dtype == np.int64
    assert ids.tolist() == list(text.encode())
    assert ByteTokenizer().decode(ids) == text


@settings(deadline=None)
@given(st.text())
def test_bpe_round_trips_text_it_never_saw(bpe, text):
    ids = bpe.encode(text)
    assert ids.dtype == np.int64
    assert all(0 <= i < bpe.vocab_size for i in ids)
    assert bpe.decode(ids) == text


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
def test_half_a_character_decodes_to_the_replacement_mark(name):
    made = build(name, [TRAIN])
    assert "\ufffd" in made.decode(made.encode("é")[:1])


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
def test_a_lone_surrogate_from_a_terminal_is_no_crash(name):
    made = build(name, [TRAIN])
    assert made.decode(made.encode("a\udcffb")) == "a?b"


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
def test_nothing_encodes_to_nothing(name):
    made = build(name, [TRAIN])
    assert made.encode("").shape == (0,)
    assert made.decode([]) == ""


def test_bpe_has_the_size_asked_for_and_shortens_the_text(bpe):
    assert bpe.vocab_size == 300
    assert bytes_per_token(bpe, TRAIN) > bytes_per_token(bpe, VALIDATION) > 1.1
    assert bytes_per_token(ByteTokenizer(), "naïve") == 1.0


def test_a_text_too_short_for_the_vocabulary_gives_a_smaller_one():
    small = BPETokenizer.train(["abc"], 4096)
    assert 256 <= small.vocab_size < 300
    assert small.encode("xyz").max() < small.vocab_size


def test_bpe_training_gives_the_same_file_in_every_process(bpe):
    script = (
        "from addnorm.data.tokens.tokenizer import BPETokenizer\n"
        f"print(BPETokenizer.train([{TRAIN!r}], 300).fingerprint())"
    )
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == bpe.fingerprint()


def test_a_word_of_the_validation_text_is_no_token_unless_trained_on():
    word = "Zounds"
    trained = BPETokenizer.train([TRAIN + word * 20], 400)
    untrained = BPETokenizer.train([TRAIN], 400)
    assert len(trained.encode(word)) < len(untrained.encode(word))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(["a", " ", "\n", "\t", "don't", "It", "9", "é", "!", "\u3000"]), max_size=60))
def test_chunks_tokenize_as_the_whole_does(bpe, parts):
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "_CHUNK_CHARACTERS", 5)
        assert "".join(tokenizer._chunks(text)) == text
        in_chunks = bpe.encode(text)
    assert np.array_equal(in_chunks, bpe.encode(text))


def test_the_shipped_text_is_really_cut_into_chunks():
    chunks = list(tokenizer._chunks(joined(shakespeare.load().validation)))
    assert len(chunks) == 3
    assert max(map(len, chunks)) < 1.01 * tokenizer._CHUNK_CHARACTERS


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
def test_a_saved_tokenizer_loads_as_the_same(tmp_path, name):
    made = build(name, [TRAIN])
    made.save(tmp_path / tokenizer.FILE)
    loaded = load(tmp_path / tokenizer.FILE)
    assert type(loaded) is type(made)
    assert loaded.fingerprint() == made.fingerprint()
    assert loaded.vocab_size == made.vocab_size
    assert np.array_equal(loaded.encode(VALIDATION), made.encode(VALIDATION))


def test_a_saved_bpe_is_read_by_the_tokenizers_package(tmp_path, bpe):
    from tokenizers import Tokenizer

    bpe.save(tmp_path / tokenizer.FILE)
    assert Tokenizer.from_file(str(tmp_path / tokenizer.FILE)).encode(VALIDATION).ids == bpe.encode(VALIDATION).tolist()


def test_fingerprints_tell_tokenizers_apart(bpe):
    other = BPETokenizer.train([TRAIN], 301)
    assert len({bpe.fingerprint(), other.fingerprint(), ByteTokenizer().fingerprint()}) == 3


@pytest.mark.parametrize("content", ["", "{", '{"type": "byt', "[1, 2]", "\xff"])
def test_a_damaged_file_is_a_clear_error(tmp_path, content):
    path = tmp_path / tokenizer.FILE
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="is not a saved tokenizer"):
        load(path)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / tokenizer.FILE)


@pytest.mark.parametrize("name", ["", "bytes", "bpe", "bpe:", "bpe:many", "bpe:-5", "bpe:1e4", "bpe:٣٠٠", "byte:256"])
def test_an_unknown_tokenizer_is_refused_with_what_is_allowed(name):
    with pytest.raises(UserError, match="use byte, bpe:SIZE"):
        build(name, [TRAIN])


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(UserError, match="vocabulary of 255 is too small; use 256"):
        build("bpe:255", [TRAIN])


def test_bits_per_byte_compares_across_tokenizers():
    # Uniform over 65536 tokens of two bytes each is uniform over bytes: 8 bits.
    assert bits_per_byte(math.log(65536), 2.0) == pytest.approx(8.0, rel=1e-12)  # rounding of two logarithms


def test_a_bpe_is_trained_on_the_beginning_of_long_texts_and_reads_no_further(monkeypatch):
    monkeypatch.setattr(tokenizer, "TRAINING_CHARACTERS", len(TRAIN))
    asked = []

    def texts():
        for text in (TRAIN[:1000], TRAIN[1000:] + VALIDATION, "never"):
            asked.append(text)
            yield text

    found = build("bpe:300", texts())
    assert "never" not in asked
    # The same words; where the text was cut into two makes no merge of its own.
    assert found.fingerprint() == BPETokenizer.train([TRAIN[:1000], TRAIN[1000:]], 300).fingerprint()


def test_characters_of_a_script_without_blanks_count_more():
    assert list(tokenizer._first(["一二三四", "五六"], 24)) == ["一二三四"]
    assert list(tokenizer._first(["一二三", "四五六"], 24)) == ["一二三", "四"]
    assert list(tokenizer._first(["one", "two"], 4)) == ["one", "t"]
    assert list(tokenizer._first(["\ud800two"], 3)) == ["\ud800tw"]


@pytest.mark.parametrize("letters", ["ACGT", "0123456789", "+/=-_", " \t", "漢字"])
def test_merges_are_learned_from_words_of_bounded_length(letters):
    text = "some words, then " + "".join(letters[n * n % 7 % len(letters)] for n in range(2000)) + " and more"
    pieces = list(tokenizer._short_words(text))
    assert "".join(pieces) == text
    # The pre-tokenizer puts one blank before a word.
    assert max(len(word) for piece in pieces for word in re.findall(r"[^\W\d_]+|\d+|\s+|(?:[^\w\s]|_)+", piece)) <= 257
    assert list(tokenizer._short_words("usual words " * 100)) == ["usual words " * 100]


def test_a_text_without_blanks_is_learned_from():
    text = "".join(random.Random(0).choices("ACGT", k=40_000))
    trained = BPETokenizer.train([text], 300)
    assert trained.vocab_size == 300 and len(trained.encode(text)) < len(text) / 2
    assert trained.decode(trained.encode(text)) == text
