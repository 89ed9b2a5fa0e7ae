from __future__ import annotations

import pytest

from addnorm.data.sources import text_file, user_files
from addnorm.errors import UserError


def write(folder, *names):
    for name in names:
        (folder / name).write_text("x\n")
    return folder


def found(source, suffixes=(".tsv",)):
    return {split: path.rsplit("/", 1)[-1] for split, path in user_files.find(str(source), suffixes).items()}


def test_a_file_is_for_training():
    assert found("some/file.tsv") == {"train": "file.tsv"}


@pytest.mark.parametrize(
    "names, expected",
    [
        (
            ("train.tsv", "dev.tsv", "test.tsv", "notes.md"),
            {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"},
        ),
        (("snli_1.0_train.tsv", "snli_1.0_test.tsv"), {"train": "snli_1.0_train.tsv", "test": "snli_1.0_test.tsv"}),
        (("train-v2.0.tsv", "dev-v2.0.tsv"), {"train": "train-v2.0.tsv", "validation": "dev-v2.0.tsv"}),
        (("latest.tsv",), {"train": "latest.tsv"}),
    ],
)
def test_the_files_of_a_folder_are_found_by_their_names(tmp_path, names, expected):
    assert found(write(tmp_path, *names)) == expected


def test_files_can_be_named_one_by_one():
    assert user_files.find("train=a,b.tsv,test=c=d.tsv", ()) == {"train": "a,b.tsv", "test": "c=d.tsv"}


@pytest.mark.parametrize("source", ["test=a.tsv", "train=,test=a", "x,train=a", "train=a,train=b"])
def test_a_list_that_is_not_understood_is_refused(source):
    with pytest.raises(UserError, match="is not understood; use train=A"):
        user_files.find(source, ())


def test_a_folder_without_or_with_too_many_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="has 0 files .tsv, none with train in its name"):
        found(tmp_path)
    write(tmp_path, "train.tsv", "train_2.tsv")
    with pytest.raises(UserError, match="two files for train, train.tsv and train_2.tsv; use train=FILE"):
        found(tmp_path)
    with pytest.raises(UserError, match="data is empty; use a file"):
        found("")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"one\ntwo\nth\0ree\n", "line 3, has a NUL byte"),
        ("one\ncaf\xe9\n".encode("latin-1"), "line 2, has the byte 0xe9, which is not UTF-8 there"),
        ("one\n".encode("utf-16-le"), "line 1, has a NUL byte"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "x.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        text_file.read_lines(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="gone.tsv does not exist"):
        text_file.read_lines(tmp_path / "gone.tsv")
    with pytest.raises(UserError, match="is not a regular file"):
        text_file.read_lines(tmp_path)


def test_only_newlines_end_a_line(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes("\ufeffone\u2028still\r\ntwo\x0b\n".encode())
    assert text_file.read_lines(path) == ["one\u2028still", "two\x0b"]
