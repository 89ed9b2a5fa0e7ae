from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest

from addnorm.data.sources import documents, tables, text_file
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.pieces import Place
from addnorm.data.texts import labelled_text, parallel_text, plain_text, questions, sentence_pairs
from addnorm.data.tokens.token_store import TokenStore
from addnorm.data.tokens.token_store_build import build
from addnorm.data.tokens.tokenizing import TokenizeConfig
from addnorm.errors import UserError
from addnorm.tasks.pairs.translator import _lines

LATIN = [f"Der {number}. Bär aß süße Äpfel, naïf et déjà vu." for number in range(60)]
CHINESE = [f"第{number}位顾客说：这家店的服务很好，ĊԊ也不贵。" for number in range(60)]  # U+010A and U+050A end in 0x0A
ENCODED = [("latin-1", LATIN), ("cp1252", LATIN), ("gb18030", CHINESE), ("utf-16-le", CHINESE), ("utf-8", CHINESE)]
MARKED = ["utf-8-sig", "utf-16", "utf-32"]
"""What writes a byte-order mark."""


def write(path, text, encoding):
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("encoding, lines", ENCODED)
def test_a_text_is_read_in_the_encoding_named_behind_it(tmp_path, encoding, lines):
    path = write(tmp_path / "a.txt", "\n".join(lines), encoding)
    found = plain_text.load(f"{path};encoding={encoding}")
    assert "".join(split[0].text for split in (found.train, found.validation, found.test)) == "\n".join(lines)


@pytest.mark.parametrize("encoding", MARKED)
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    path = write(tmp_path / "a.txt", "\n".join(CHINESE), encoding)
    for said in ("", ";encoding=latin-1"):  # the mark counts more: no text begins with one by chance
        found = plain_text.load(f"{path}{said}")
        assert "".join(split[0].text for split in (found.train, found.validation, found.test)) == "\n".join(CHINESE)


def test_each_file_of_a_list_has_its_own_encoding_and_a_folder_one_for_all(tmp_path):
    (tmp_path / "more").mkdir()
    for number in range(3):
        write(tmp_path / "more" / f"{number}.txt", f"{number} naïve", "latin-1")
    write(tmp_path / "b.txt", "déjà", "utf-8")
    write(tmp_path / "c.txt", "你好", "gb18030")
    source = (
        f"train={tmp_path}/more;encoding=latin-1,validation={tmp_path}/b.txt,test={tmp_path}/c.txt;encoding=gb18030"
    )
    found = plain_text.load(source)
    assert [one.text for one in found.train] == ["0 naïve", "1 naïve", "2 naïve"]
    assert (found.validation[0].text, found.test[0].text) == ("déjà", "你好")
    whole = plain_text.load(f"{tmp_path}/more;encoding=latin-1")
    assert {one.text for split in (whole.train, whole.validation, whole.test) for one in split} == {
        "0 naïve",
        "1 naïve",
        "2 naïve",
    }


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl"])
def test_a_table_is_read_in_the_encoding_named_behind_it(tmp_path, ending):
    mark = "," if ending == ".csv" else "\t"
    rows = [(line.replace(",", ";"), "ja" if number % 2 else "nö") for number, line in enumerate(LATIN)]
    if ending == ".jsonl":
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    else:
        lines = [mark.join(("text", "label")), *(mark.join(row) for row in rows)]
    (tmp_path / "all").mkdir()
    path = write(tmp_path / "all" / f"train{ending}", "\n".join(lines), "cp1252")
    for source in (path, path.parent):
        found = labelled_text.load(f"{source};encoding=cp1252")
        assert sorted((one.text, one.label) for one in found.train + found.validation + found.test) == sorted(rows)


def test_pairs_and_questions_are_read_in_the_encoding_named_behind_them(tmp_path):
    text = "premise\thypothesis\tlabel\n" + "\n".join(f"{line}\tÄ{line}\tnö" for line in LATIN)
    table = tables.load(f"{write(tmp_path / 'p.tsv', text, 'latin-1')};encoding=latin-1", [])["train"]
    assert sentence_pairs.read(table)[0][7].second == f"Ä{LATIN[7]}"
    answer = {"text": "顾客", "answer_start": 3}
    entry = {"id": "1", "question": "谁？", "answers": [answer]}
    squad = {"data": [{"paragraphs": [{"context": "第一位顾客", "qas": [entry]}]}]}
    path = write(tmp_path / "q.json", json.dumps(squad, ensure_ascii=False), "gb18030")
    assert questions.read(f"{path};encoding=gb18030")[0].answers[0].text == "顾客"


def test_each_of_two_line_files_has_its_own_encoding(tmp_path):
    one = write(tmp_path / "train.de", "\n".join(LATIN), "latin-1")
    other = write(tmp_path / "train.zh", "\n".join(CHINESE), "gb18030")
    found = parallel_text.read(f"{one};encoding=latin-1+{other};encoding=gb18030")
    assert [(pair.source, pair.target) for pair in found] == list(zip(LATIN, CHINESE, strict=True))
    write(tmp_path / "train.zh", "\n".join(LATIN), "latin-1")
    assert len(parallel_text.load(f"{tmp_path};encoding=latin-1").train) > 40


def test_a_file_to_translate_may_have_its_encoding_behind_it(tmp_path):
    path = write(tmp_path / "in.txt", "\n".join(LATIN), "latin-1")
    assert _lines(f"{path};encoding=latin-1") == LATIN


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("encoding, said", [("gb18030", "gb18030"), ("utf-16-le", "utf-16-le"), ("utf-16", "")])
def test_tokenize_reads_the_same_from_any_encoding_as_from_utf8(tmp_path, name, encoding, said):
    texts = [" ".join(CHINESE[number % 60] for number in range(start, start + 40)) for start in range(300)]
    lines = [json.dumps({"text": text}, ensure_ascii=False) if "jsonl" in name else text for text in texts]
    stores = []
    for folder, written, named in (("ours", encoding, said), ("plain", "utf-8", "")):
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder / name, "\n".join(lines) + "\n", written)
        build(TokenizeConfig(source=text_file.named(path, named), held_out=0.2), tmp_path / f"{folder}.store")
        stores.append(TokenStore(tmp_path / f"{folder}.store"))
    ours, plain = (
        {split: one.splits[split].read(0, len(one.splits[split])).tobytes() for split in one.splits} for one in stores
    )
    assert ours == plain


def test_reading_another_encoding_goes_on_where_it_stood(tmp_path):
    path = write(tmp_path / "a.jsonl", "\n".join(f'{{"text": "{line}"}}' for line in CHINESE), "gb18030")
    source = f"{path};encoding=gb18030"
    parts, faults = documents.parts(source), BadRecords(skip=False)
    pieces = list(documents.read(source, parts, "text", faults, Place()))
    assert [piece.text for piece in pieces] == CHINESE
    behind = documents.read(source, parts, "text", faults, pieces[29].after)
    assert [piece.text for piece in behind] == CHINESE[30:]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_bytes_that_the_named_encoding_does_not_have_are_told_with_their_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b'{"text": "one"}\n{"text": "tw\x81o"}\n{"text": "three"}\n')  # cp1252 leaves 0x81 open
    source = f"{path};encoding=cp1252"
    what = r", line 2.* 0x81, which is not cp1252 t?here; name its encoding, as in '.*;encoding="
    with pytest.raises(UserError, match=what):
        list(documents.read(source, documents.parts(source), "text", BadRecords(skip=False), Place()))
    with pytest.raises(UserError, match=what):
        text_file.read_text(path, "cp1252")
    skipping = BadRecords(skip=True)
    left = "".join(piece.text for piece in documents.read(source, documents.parts(source), "text", skipping, Place()))
    assert "one" in left and "three" in left and "tw" not in left and skipping.count == 1


@pytest.mark.parametrize("encoding", ["klingon", "", "hex", "idna", "undefined", "a\0b"])
@pytest.mark.parametrize(
    "load", [plain_text.load, labelled_text.load, questions.load, parallel_text.load, documents.parts]
)
def test_an_encoding_that_is_none_is_refused(tmp_path, encoding, load):
    path = write(tmp_path / "a.txt", "words\n", "utf-8")
    with pytest.raises(UserError, match=r"encoding '.*' of '.*a.txt' is not known; use utf-8"):
        load(f"{path};encoding={encoding}")


@pytest.mark.parametrize("load", [plain_text.load, labelled_text.load, documents.parts])
def test_a_data_set_takes_no_encoding(load):
    with pytest.raises(UserError, match="names an encoding, which `datasets` does not take"):
        load("hf:someone/texts;encoding=latin-1")


@pytest.mark.parametrize(
    "pack, said",
    [
        (gzip.compress, "is gzipped, not a plain text file; take the text out of it first"),
        (bz2.compress, "is packed by bzip2"),
        (lzma.compress, "is packed by xz"),
        (lambda content: b"PK\x03\x04" + content, "is a zip archive, or a document that is one"),
        (lambda content: b"%PDF-1.7\n" + content, "is a PDF document"),
    ],
)
@pytest.mark.parametrize("load", [plain_text.load, labelled_text.load, questions.load, parallel_text.load])
def test_what_is_packed_is_not_taken_for_another_encoding(tmp_path, pack, said, load):
    (tmp_path / "a.tsv").write_bytes(pack(b"text\tlabel\nwords\tx\n"))
    for source in (f"{tmp_path}/a.tsv", f"{tmp_path}/a.tsv;encoding=latin-1"):
        with pytest.raises(UserError, match=said):
            load(source)
