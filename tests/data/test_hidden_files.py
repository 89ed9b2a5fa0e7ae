from __future__ import annotations

import pytest

from addnorm.data.pictures import videos
from addnorm.data.sources import documents
from addnorm.data.sources.hidden_files import shown_files
from addnorm.data.texts import labelled_text, parallel_text, plain_text

JUNK = b"\0\x05\x16\x07\0\x02\0\0Mac OS X\xff"
"""As the resource forks begin that some systems leave beside files on other disks."""


def litter(folder, names, content=JUNK):
    """What systems leave beside files of such names."""
    (folder / "__MACOSX").mkdir()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".DS_Store").write_bytes(content)
    for name in names:
        (folder / f"._{name}").write_bytes(content)
        (folder / "__MACOSX" / name).write_bytes(content)
        (folder / ".ipynb_checkpoints" / name).write_bytes(content)


def test_only_what_a_file_browser_shows_is_found(tmp_path):
    (tmp_path / ".data" / "below").mkdir(parents=True)  # the folder that is named may itself be hidden
    (tmp_path / ".data" / "b.txt").write_text("b")
    (tmp_path / ".data" / "below" / "a.txt").write_text("a")
    litter(tmp_path / ".data", ["b.txt"])
    assert [path.name for path in shown_files(tmp_path / ".data")] == ["b.txt", "a.txt"]


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_of_texts_is_read_without_what_systems_leave_there(tmp_path, named):
    names = ["train.txt", "valid.txt", "test.txt"] if named else [f"{number}.txt" for number in range(5)]
    for name in names:
        (tmp_path / name).write_text(f"The text of {name}.\n" * 9)
    before = plain_text.load(str(tmp_path)).fingerprint(), documents.parts(str(tmp_path))
    litter(tmp_path, names)
    assert (plain_text.load(str(tmp_path)).fingerprint(), documents.parts(str(tmp_path))) == before
    listed = plain_text.load(f"train={tmp_path},validation={tmp_path}/{names[0]},test={tmp_path}/{names[1]}")
    assert [document.name for document in listed.train] == sorted(names)


def test_hidden_archives_do_not_make_a_folder_one_of_archives(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "words"}\n')
    litter(tmp_path, ["a.jsonl"], b'{"text": "nobody means this"}\n')
    found = documents.parts(str(tmp_path))
    assert [part.name for part in found] == [f"{tmp_path}/a.jsonl"]


def test_a_folder_of_tables_is_read_without_what_systems_leave_there(tmp_path):
    for name in ("train.tsv", "test.tsv"):
        (tmp_path / name).write_text("text\tlabel\n" + "".join(f"{name} {n}\t{n % 2}\n" for n in range(60)))
    litter(tmp_path, ["train.tsv", "test.tsv"])
    found = labelled_text.load(str(tmp_path))
    assert len(found.test) == 60 and len(found.train) + len(found.validation) == 60


def test_a_folder_of_line_files_is_read_without_what_systems_leave_there(tmp_path):
    names = [f"{split}.{language}" for split in ("train", "dev", "test") for language in ("en", "es")]
    for name in names:
        (tmp_path / name).write_text(f"one of {name}\ntwo of {name}\n")
    litter(tmp_path, names)
    (tmp_path / "._train").write_bytes(JUNK)
    found = parallel_text.load(str(tmp_path))
    assert (len(found.train), len(found.validation), len(found.test)) == (2, 2, 2)


def test_videos_in_hidden_folders_are_none_of_the_users(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    litter(tmp_path, ["a.mp4"])
    assert videos._find(tmp_path) == [tmp_path / "a.mp4"]
