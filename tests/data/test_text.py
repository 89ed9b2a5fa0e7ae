from __future__ import annotations

import os
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from addnorm.data.sources.text_file import read_text
from addnorm.data.texts import plain_text, text
from addnorm.data.texts.text import Document, TextSplits, boundary, hold_out, joined, load_file, load_folder
from addnorm.errors import UserError

PARAGRAPH = "The quality of mercy is not strained,\nIt droppeth as the gentle rain.\n\n"


def whole(splits: TextSplits) -> str:
    return "".join(part.text for split in (splits.train, splits.validation, splits.test) for part in split)


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_is_cut_in_three_without_loss_or_overlap(tmp_path):
    path = write(tmp_path, "play.txt", PARAGRAPH * 200)
    splits = load_file(path)
    assert whole(splits) == PARAGRAPH * 200
    assert splits.origin == str(path)


def test_the_cuts_of_a_file_stand_between_paragraphs(tmp_path):
    splits = load_file(write(tmp_path, "play.txt", PARAGRAPH * 200))
    assert splits.train[0].text.endswith("\n\n")
    assert splits.validation[0].text.endswith("\n\n")


def test_the_held_out_shares_of_a_file_are_as_asked(tmp_path):
    path = write(tmp_path, "play.txt", PARAGRAPH * 1000)
    splits = load_file(path, held_out=0.1)
    size = len(PARAGRAPH) * 1000
    # A cut moves by less than one paragraph here, 0.1 % of the text.
    assert len(splits.validation[0].text) / size == pytest.approx(0.1, abs=0.002)
    assert len(splits.test[0].text) / size == pytest.approx(0.1, abs=0.002)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.text(min_size=3, max_size=400).filter(lambda t: "\0" not in t and t.strip()))
def test_any_file_is_cut_whole_or_refused(tmp_path, content):
    path = write(tmp_path, "any.txt", content)
    try:
        splits = load_file(path)
    except UserError as error:
        assert "use a " in str(error) and "\n" not in str(error).replace(str(path), "")
        return
    assert whole(splits) == content.removeprefix("\ufeff")
    assert all(split and split[0].text for split in (splits.train, splits.validation, splits.test))


@pytest.mark.parametrize(
    "passage, cut_before",
    [("one\n\ntwo\nthree four", "two"), ("one\ntwo three fo", "two"), ("one two", "two"), ("onetwothree", "")],
)
def test_a_boundary_prefers_paragraphs_to_lines_to_words(passage, cut_before):
    cut = boundary(passage, len(passage), reach=len(passage))
    assert passage[cut:].startswith(cut_before)
    assert cut_before or cut == len(passage)


def test_a_boundary_looks_no_further_back_than_asked():
    assert boundary("a b" + "c" * 50, 40, reach=10) == 40


def folder_of(tmp_path, sizes):
    for number, size in enumerate(sizes):
        write(tmp_path, f"part {number:02}.txt", string.ascii_letters[number] * size)
    return tmp_path


def test_whole_files_of_a_folder_are_held_out(tmp_path):
    splits = load_folder(folder_of(tmp_path, [100] * 20))
    assert len(splits.validation) == len(splits.test) == 1
    assert len(splits.train) == 18
    names = [document.name for split in (splits.train, splits.validation, splits.test) for document in split]
    assert sorted(names) == [f"part {number:02}.txt" for number in range(20)]
    assert all(len(document.text) == 100 for document in splits.train)


def test_the_held_out_files_do_not_follow_the_texts(tmp_path):
    before = load_folder(folder_of(tmp_path, [100] * 20))
    after = load_folder(folder_of(tmp_path, [101] * 20))
    assert [d.name for d in before.validation + before.test] == [d.name for d in after.validation + after.test]


def test_the_large_file_of_a_folder_is_trained_on(tmp_path):
    splits = load_folder(folder_of(tmp_path, [100, 100, 5000]))
    assert [len(document.text) for document in splits.train] == [5000]


def test_files_in_folders_within_are_read_and_others_are_not(tmp_path):
    folder_of(tmp_path, [10, 10])
    write(tmp_path, "acts/one.txt", "act one")
    write(tmp_path, "readme.md", "not read")
    splits = load_folder(tmp_path)
    names = {document.name for split in (splits.train, splits.validation, splits.test) for document in split}
    assert names == {"part 00.txt", "part 01.txt", os.path.join("acts", "one.txt")}


@given(sizes=st.lists(st.integers(1, 500), min_size=3, max_size=12), share=st.floats(0.01, 0.9))
def test_no_split_is_empty_and_none_is_lost_whatever_the_sizes(sizes, share):
    documents = [Document(name=str(number), text="x" * size) for number, size in enumerate(sizes)]
    splits = hold_out("test", documents, share)
    assert splits.train and splits.validation and splits.test
    assert {d.name for d in splits.train + splits.validation + splits.test} == {d.name for d in documents}
    assert len(splits.train + splits.validation + splits.test) == len(documents)


def test_a_folder_of_two_files_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"has 2 files \*.txt.*needs 3 or more.*one text file"):
        load_folder(folder_of(tmp_path, [10, 10]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="gone.txt does not exist; use a text file"):
        read_text(tmp_path / "gone.txt")


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="is empty"):
        read_text(write(tmp_path, "empty.txt", content))


def test_a_nul_byte_is_named_by_its_line(tmp_path):
    with pytest.raises(UserError, match="line 2, has a NUL byte"):
        read_text(write(tmp_path, "binary.txt", b"a line\nwords\0more"))


def test_an_undecodable_byte_is_named_by_its_line(tmp_path):
    with pytest.raises(
        UserError,
        match=r"line 1, has the byte 0xe9, which is not UTF-8 there; name .*latin\.txt;enc",
    ):
        read_text(write(tmp_path, "latin.txt", "caf\xe9!".encode("latin-1")))


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert read_text(write(tmp_path, "bom.txt", b"\xef\xbb\xbfwords")) == "words"


def test_a_folder_where_a_file_is_wanted_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a regular file"):
        read_text(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        plain_text.load(str(tmp_path / "pipe"))


@pytest.mark.parametrize("name", ["x" * 5000, "with\0nul", "no/such/folder"])
def test_a_name_that_can_be_no_file_is_a_clear_error(name):
    with pytest.raises(UserError, match="use "):
        plain_text.load(name)


def test_sources_are_told_apart(tmp_path):
    assert plain_text.load("shakespeare").origin == "shakespeare"
    assert len(plain_text.load(str(folder_of(tmp_path, [10] * 5))).train) == 3
    assert plain_text.load(str(write(tmp_path, "one.txt", PARAGRAPH * 9))).train[0].name == "one.txt"
    with pytest.raises(UserError, match="data is empty; use shakespeare"):
        plain_text.load("")


def test_the_fingerprint_tells_texts_names_and_splits_apart():
    a, b = Document(name="a", text="to be"), Document(name="b", text="or not")
    c = Document(name="c", text="to be")
    variants = [
        TextSplits(origin="x", train=(a,), validation=(b,), test=(c,)),
        TextSplits(origin="x", train=(a, b), validation=(), test=(c,)),
        TextSplits(origin="x", train=(c,), validation=(b,), test=(a,)),
        TextSplits(origin="x", train=(Document(name="a", text="to bE"),), validation=(b,), test=(c,)),
    ]
    assert len({splits.fingerprint() for splits in variants}) == 4
    moved = TextSplits(origin="elsewhere", train=(a,), validation=(b,), test=(c,))
    assert moved.fingerprint() == variants[0].fingerprint()


def test_joined_documents_stand_apart():
    assert joined((Document(name="a", text="A"), Document(name="b", text="B"))) == "A\n\nB"
    assert text.HELD_OUT == 0.05
