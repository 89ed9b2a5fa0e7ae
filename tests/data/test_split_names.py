from __future__ import annotations

import pytest

from addnorm.data.sources import documents, split_names
from addnorm.data.texts import labelled_text, plain_text
from addnorm.errors import UserError


def put(folder, *names, words=600):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n" + " ".join(f"w{number}" for number in range(words)))
    return str(folder)


def by_split(source):
    found = plain_text.load(source)
    return {split: [text.name for text in getattr(found, split)] for split in split_names.SPLITS}


def test_folders_called_after_splits_hold_their_files(tmp_path):
    source = put(tmp_path, "train/0.txt", "train/1.txt", "train/2.txt", "valid/0.txt", "test/0.txt", "README.txt")
    wanted = {"train": ["train/0.txt", "train/1.txt", "train/2.txt"], "validation": ["valid/0.txt"]}
    assert by_split(source) == {**wanted, "test": ["test/0.txt"]}


@pytest.mark.parametrize("name", ["valid", "val", "dev", "validation"])
@pytest.mark.parametrize("prefix", ["", "ptb.", "wiki.", "enwik8_", "my-"])
def test_files_called_after_splits_are_those_splits(tmp_path, prefix, name):
    source = put(tmp_path, *(f"{prefix}{split}.txt" for split in ("train", name, "test")))
    wanted = {"train": [f"{prefix}train.txt"], "validation": [f"{prefix}{name}.txt"], "test": [f"{prefix}test.txt"]}
    assert by_split(source) == wanted


def test_a_list_names_files_and_folders(tmp_path):
    put(tmp_path, "a/1.txt", "a/2.txt", "b.txt", "c.txt")
    found = by_split(f"train={tmp_path / 'a'},validation={tmp_path / 'b.txt'},test={tmp_path / 'c.txt'}")
    assert found == {"train": ["1.txt", "2.txt"], "validation": ["b.txt"], "test": ["c.txt"]}


def test_what_is_missing_is_held_out_of_training(tmp_path):
    put(tmp_path, "train.txt", "test.txt")
    found = plain_text.load(str(tmp_path))
    assert [text.name for text in found.test] == ["test.txt"]
    assert found.train[0].text + found.validation[0].text == (tmp_path / "train.txt").read_text()


def test_a_title_with_test_in_it_is_no_split(tmp_path):
    source = put(tmp_path, "a test of time.txt", "the journey.txt", "winter.txt", "summer.txt")
    assert sum(map(len, by_split(source).values())) == 4


def test_a_file_of_no_split_among_splits_is_refused(tmp_path):
    source = put(tmp_path, "train.txt", "test.txt", "more.txt")
    with pytest.raises(UserError, match=r"more\.txt, which is for no split by its name; rename it"):
        plain_text.load(source)


def test_held_out_folders_without_training_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"test/0\.txt, held out by its name, and 1\.txt"):
        plain_text.load(put(tmp_path, "1.txt", "2.txt", "3.txt", "test/0.txt"))


def test_a_token_store_has_the_splits_that_the_names_say(tmp_path):
    source = put(tmp_path, "train/0.txt", "dev/0.txt", "test/0.txt")
    found = {part.name.removeprefix(f"{source}/"): part.split for part in documents.parts(source)}
    assert found == {"train/0.txt": "train", "dev/0.txt": "validation", "test/0.txt": "test"}


def test_a_token_store_holds_out_of_training_what_names_do_not_say(tmp_path):
    source = put(tmp_path, "train.txt", "test.txt")
    parts = documents.parts(source)
    assert [part.split for part in parts] == [None, "test"]
    assert documents.held_out(source, parts) == ("validation",)


@pytest.mark.parametrize("read", [plain_text.load, documents.parts, labelled_text.load])
def test_a_relative_path_is_said_to_be_one(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"gone.txt'? does not exist in {tmp_path}, where relative paths begin"):
        read("gone.txt")
