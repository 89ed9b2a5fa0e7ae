from __future__ import annotations

import gzip
import json

import pytest

from addnorm.data.sources import file_lines
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.file_lines import json_lines, text_blocks
from addnorm.data.sources.pieces import Place
from addnorm.data.tokens.tokenizer import BPETokenizer
from addnorm.errors import UserError

GOOD = json.dumps({"text": "to be"}).encode()
BAD = {
    b"{": "is not JSON",
    b"[1]": "is list, not an object with the field 'text'",
    b'{"texts": "a"}': r"has no field 'text' \(--text-field\), only 'texts'",
    b'{"text": 3}': "the field 'text' is int, not text",
    b'{"text": "\xff"}': "byte 11 is 0xff, which is not UTF-8 here",
    b"a\0b": "byte 2 is NUL",
    b"[" * 100_000: "is not JSON",
}


def records(path, faults=None, start=None):
    return list(json_lines(str(path), None, "text", faults or BadRecords(skip=False), start or Place()))


def blocks(path, faults=None, start=None):
    return list(text_blocks(str(path), None, faults or BadRecords(skip=False), start or Place()))


@pytest.mark.parametrize("line", BAD, ids=list(BAD.values()))
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_bad_record_is_an_error_with_file_and_line(line, packed, tmp_path):
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    content = b"\n".join([GOOD, b"", line, GOOD])
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match=rf"a\.jsonl(\.gz)?, line 3: {BAD[line]}.*--skip-bad"):
        records(path)
    faults = BadRecords(skip=True)
    assert [piece.text for piece in records(path, faults)] == ["to be", "to be"]
    assert faults.count == 1 and "line 3" in faults.first[0]


def test_a_record_of_absurd_length_is_bad_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lines, "RECORD_BYTES", 50)
    monkeypatch.setattr(file_lines, "LINE_BYTES", 8)
    path = tmp_path / "a.jsonl"
    exact = json.dumps({"text": "x" * 37}).encode()
    assert len(exact) == 50 - 1
    path.write_bytes(b"\n".join([exact + b" ", json.dumps({"text": "x" * 200}).encode(), GOOD]))
    faults = BadRecords(skip=True)
    found = records(path, faults)
    assert [piece.text for piece in found] == ["x" * 37, "to be"]
    assert faults.first == [f"{path}, line 2: is longer than 50 bytes"]
    assert records(path, start=found[1].after) == []


def test_a_damaged_archive_is_told_with_its_line_and_ends_the_file(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"\n".join(b'{"text": "%d %d"}' % (i, i * i) for i in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.jsonl\.gz, line \d+: the compressed data end or are damaged"):
        records(path)
    faults = BadRecords(skip=True)
    assert 1000 < len(records(path, faults)) < 4000
    assert faults.count == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_reading_goes_on_behind_any_record(name, tmp_path):
    path = tmp_path / name
    content = b"\n".join(GOOD if i % 3 else b"{" for i in range(30))
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    whole = records(path, BadRecords(skip=True))
    for number in (0, 7, 19):
        assert records(path, BadRecords(skip=True), whole[number].after) == whole[number + 1 :]


def lines_of_text():
    return "".join(f"{i}. {'word ' * (i % 9)}naïve\n" + "\n" * (i % 5 == 0) for i in range(6000))


@pytest.mark.parametrize("line_bytes", [3, 1000, 2**20])
def test_blocks_of_a_text_are_the_text(line_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(file_lines, "LINE_BYTES", line_bytes)
    path = tmp_path / "a.txt"
    path.write_text("\ufeff" + lines_of_text())
    found = blocks(path)
    assert len(found) > 3
    assert "".join(piece.text for piece in found) == lines_of_text()
    assert all(len(piece.text) < 3 * file_lines.BLOCK_CHARACTERS for piece in found)
    assert [piece.before for piece in found[1:]] == [piece.after for piece in found[:-1]]
    assert blocks(path, start=found[1].after) == found[2:]


def test_blocks_are_cut_where_no_token_reaches_across(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(lines_of_text())
    tokenizer = BPETokenizer.train([lines_of_text()], 300)
    apart = [token for piece in blocks(path) for token in tokenizer.encode(piece.text).tolist()]
    assert apart == tokenizer.encode(lines_of_text()).tolist()


def test_a_text_without_line_ends_is_cut_too(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lines, "LINE_BYTES", 1001)
    path = tmp_path / "a.txt"
    path.write_text("ñ" * 200_000)
    found = blocks(path)
    assert "".join(piece.text for piece in found) == "ñ" * 200_000
    assert len(found) >= 3


def test_a_bad_line_of_a_text_is_told_and_met_once(tmp_path):
    path = tmp_path / "a.txt"
    lines = lines_of_text().encode().split(b"\n")
    bad = {3, 700, 2500}
    path.write_bytes(b"\n".join(b"\xc3(" if i in bad else line for i, line in enumerate(lines)))
    with pytest.raises(UserError, match=r"a\.txt, line 4: byte 1 is 0xc3, which is not UTF-8 here; name its encoding"):
        blocks(path)
    whole = BadRecords(skip=True)
    found = blocks(path, whole)
    assert [int(text.split("line ")[1].split(":")[0]) for text in whole.first] == [4, 701, 2501]
    assert "".join(p.text for p in found).encode() == b"\n".join(li for i, li in enumerate(lines) if i not in bad)
    for number in range(len(found)):
        before, after = BadRecords(skip=True), BadRecords(skip=True)
        reading = text_blocks(str(path), None, before, Place())
        for _ in range(number + 1):
            next(reading)
        blocks(path, after, found[number].after)
        assert before.count + after.count == 3


def test_a_text_that_ends_within_a_character_is_bad(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("day\nnaï".encode()[:-1])
    with pytest.raises(UserError, match="line 2: ends in the middle of a UTF-8 character"):
        blocks(path)
