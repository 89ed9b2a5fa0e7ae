from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest

from addnorm.config import RunConfig
from addnorm.data.texts.repeats import RepeatWarning
from addnorm.data.tokens import token_store_build, tokenizer
from addnorm.data.tokens.epochs import WindowStream
from addnorm.data.tokens.token_store import TokenStore, is_store
from addnorm.data.tokens.token_store_build import build
from addnorm.data.tokens.tokenizer import ByteTokenizer
from addnorm.data.tokens.tokenizing import TokenizeConfig
from addnorm.errors import UserError
from addnorm.tasks.language_modeling import LanguageModeling


class Stop(Exception):
    """Stands for whatever breaks a build off."""


def write_records(path: Path, count: int, mark: str = "") -> list[str]:
    texts = [f"{mark}{i} times {i % 7} is {i * (i % 7)}, naïve {'or not ' * (i % 5)}" for i in range(count)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


@pytest.fixture
def source(tmp_path):
    write_records(tmp_path / "a.jsonl", 400)
    return tmp_path / "a.jsonl"


def config(source, **changes):
    return TokenizeConfig(source=str(source), **changes)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def documents_of(store, split):
    return store.tokenizer.decode(store.splits[split].read(0, len(store.splits[split]))).split("\n\n")


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
def test_every_document_is_in_one_split_and_reads_back(name, tmp_path):
    texts = write_records(tmp_path / "a.jsonl", 400)
    index = build(config(tmp_path / "a.jsonl", tokenizer=name, shard_tokens=1000), tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    found = {split: documents_of(store, split) for split in ("train", "validation", "test")}
    assert sorted(sum(found.values(), [])) == sorted(texts)
    assert {split: index["splits"][split]["documents"] for split in found} == {s: len(d) for s, d in found.items()}
    # 400 documents at 5 %: 20 are expected with a deviation of 4.4; four of them.
    assert all(3 <= len(found[split]) <= 38 for split in ("validation", "test"))
    assert len(index["splits"]["train"]["shards"]) > 5
    tokens = store.splits["train"].read(0, len(store.splits["train"]))
    assert np.array_equal(store.unigrams(), np.bincount(tokens, minlength=store.tokenizer.vocab_size))
    text = "\n\n".join(found["validation"])
    assert store.bytes_per_token("validation") * len(store.splits["validation"]) == len(text.encode())


def test_a_document_that_comes_twice_is_in_one_split(tmp_path):
    texts = write_records(tmp_path / "a.jsonl", 300)
    (tmp_path / "a.jsonl").write_text((tmp_path / "a.jsonl").read_text() * 2)
    build(config(tmp_path / "a.jsonl", held_out=0.2), tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    found = [set(documents_of(store, split)) for split in ("train", "validation", "test")]
    assert sum(map(len, found)) == len(texts)


def test_files_and_folders_can_be_named_for_the_splits(tmp_path):
    (tmp_path / "more").mkdir()
    ours = {
        "train": write_records(tmp_path / "more" / "a.jsonl", 9, "a") + write_records(tmp_path / "more" / "b.jsonl", 9),
        "validation": write_records(tmp_path / "v.jsonl", 3, "v"),
        "test": write_records(tmp_path / "t.jsonl", 4, "t"),
    }
    named = f"train={tmp_path}/more,validation={tmp_path}/v.jsonl,test={tmp_path}/t.jsonl"
    build(config(named), tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    assert {split: documents_of(store, split) for split in ours} == ours


def test_a_text_file_is_the_same_text_again(tmp_path):
    text = "".join(f"{i} is a line of a long text\n" for i in range(30_000))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "v.txt").write_text("day")
    build(config(f"train={tmp_path}/a.txt,validation={tmp_path}/v.txt,test={tmp_path}/v.txt"), tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    assert documents_of(store, "train") == [text]


def test_windows_cross_the_ends_of_shards(source, tmp_path):
    build(config(source, shard_tokens=37), tmp_path / "small")
    build(config(source), tmp_path / "large")
    small, large = (TokenStore(tmp_path / name).splits["train"] for name in ("small", "large"))
    starts = np.arange(0, len(large) - 100, 61)
    assert np.array_equal(small.windows(starts, 100), large.windows(starts, 100))
    assert np.array_equal(small[5:900], large[5:900])
    assert small.sample(200).shape == (200,) and np.array_equal(small.sample(10**9), large[: len(large)])


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_build_that_is_broken_off_goes_on_to_the_same_bytes(name, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store_build, "SAVED_CHARACTERS", 2000)
    monkeypatch.setattr("addnorm.data.sources.file_lines.BLOCK_CHARACTERS", 300)
    if kind == "jsonl":
        write_records(tmp_path / "a.jsonl", 400)
        with (tmp_path / "a.jsonl").open("a") as file:
            file.write("{\n" + json.dumps({"text": "the end"}) + "\n")
    else:
        lines = "".join(f"{i} times {i} is naïve\n" + "\n" * (i % 4 == 0) for i in range(3000)).encode()
        (tmp_path / "a.txt").write_bytes(lines[:9000] + b"\n\xff\n" + lines[9000:])
    choices = config(tmp_path / f"a.{kind}", tokenizer=name, shard_tokens=1500, skip_bad=True)
    build(choices, tmp_path / "whole")
    out, part = tmp_path / "broken", tmp_path / "broken.part"
    for documents in (20, 33, 1, 47):
        with pytest.raises(Stop):
            build(choices, out, resume=True, on_progress=stopping_after(documents))
        assert not out.exists()
        assert not is_store(part)
    for path in part.glob("*.bin"):
        path.write_bytes(path.read_bytes() + b"torn")  # what a crash left behind the last saved progress
    build(choices, out, resume=True)
    assert files(out) == files(tmp_path / "whole")
    assert not part.exists()
    assert json.loads((out / "index.json").read_text())["bad_records"]["count"] == 1


def stopping_after(documents):
    left = [documents]

    def stop(progress):
        left[0] -= 1
        if not left[0]:
            raise Stop

    return stop


def test_a_build_broken_off_at_once_leaves_nothing(source, tmp_path):
    with pytest.raises(Stop):
        build(config(source), tmp_path / "store", on_progress=stopping_after(1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_killed_build_leaves_no_store_and_goes_on(source, tmp_path):
    program = (
        "import os, sys; from addnorm.data.tokens import token_store_build as b\n"
        "from addnorm.data.tokens.tokenizing import *\n"
        "b.SAVED_CHARACTERS = 1000; seen = []\n"
        "def kill(now):\n    seen.append(now); len(seen) > 150 and os.kill(os.getpid(), 9)\n"
        "from pathlib import Path\n"
        "b.build(TokenizeConfig(source=sys.argv[1]), Path(sys.argv[2]), on_progress=kill)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(source), str(tmp_path / "store")])
    assert done.returncode == -9
    assert not (tmp_path / "store").exists()
    with pytest.raises(UserError, match="is an unfinished build; go on with --resume, or delete it"):
        build(config(source), tmp_path / "store")
    with pytest.raises(UserError, match="no token store .*its build is not finished"):
        TokenStore(tmp_path / "store")
    build(config(source), tmp_path / "store", resume=True)
    assert not (tmp_path / "store.part").exists()
    build(config(source), tmp_path / "whole")
    tokens = [TokenStore(tmp_path / name).splits["train"] for name in ("store", "whole")]
    assert np.array_equal(tokens[0][: len(tokens[0])], tokens[1][: len(tokens[1])])


def test_a_resumed_build_must_be_the_same(source, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store_build, "SAVED_CHARACTERS", 1000)
    with pytest.raises(Stop):
        build(config(source), tmp_path / "store", on_progress=stopping_after(90))
    with pytest.raises(UserError, match="was begun with another shard_tokens; give what it was begun with, or delete"):
        build(config(source, shard_tokens=5), tmp_path / "store", resume=True)
    write_records(source, 401)
    with pytest.raises(UserError, match="was begun with another source's files"):
        build(config(source), tmp_path / "store", resume=True)


def test_a_finished_store_is_not_written_over(source, tmp_path):
    index = build(config(source), tmp_path / "store")
    with pytest.raises(UserError, match="exists already; name a new folder"):
        build(config(source), tmp_path / "store")
    assert build(config(source), tmp_path / "store", resume=True) == index


def test_bad_records_stop_the_build_or_are_counted_and_listed(source, tmp_path):
    with source.open("a") as file:
        file.write("{\n" * 150)
    for resume in (False, True):
        with pytest.raises(UserError, match=r"a\.jsonl, line 401: is not JSON"):
            build(config(source), tmp_path / "store", resume=resume)
    assert not list(tmp_path.glob("store*"))
    bad = build(config(source, skip_bad=True), tmp_path / "store")["bad_records"]
    assert bad["count"] == 150
    assert len(bad["first"]) == 100 and "line 401: is not JSON" in bad["first"][0]


@pytest.mark.parametrize(
    "given, said",
    [
        ("nowhere", "'nowhere' does not exist in .*; use a file, a folder"),
        ("", "'' is no file and no folder"),
        ("{empty}", r"has no files \.txt"),
        ("train=nowhere", "'nowhere' does not exist"),
        ("validation={a},test={a}", "of which train is needed"),
        ("train={a},train={a}", "is not understood"),
        ("{few}", "has 3 documents, of which none fell to validation and test|none fell to"),
        ("hf:someone/stories", "needs the extra hf"),
    ],
)
def test_sources_that_cannot_be(given, said, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "empty").mkdir()
    write_records(tmp_path / "few.jsonl", 3)
    given = given.format(a=source, empty=tmp_path / "empty", few=tmp_path / "few.jsonl")
    with pytest.raises(UserError, match=said):
        build(config(given), tmp_path / "store")
    assert not list(tmp_path.glob("store*"))


def test_damage_is_found(source, tmp_path):
    build(config(source, shard_tokens=9000), tmp_path / "store")
    store = tmp_path / "store"
    whole = files(store)
    for name, content, said in [
        ("train-00000.bin", whole["train-00000.bin"][:-1], "train-00000.bin is damaged: it has 8,999 bytes and had"),
        ("train-00000.bin", b"x" + whole["train-00000.bin"][1:], "train-00000.bin is damaged: its SHA-256"),
        ("unigrams.bin", b"x" * len(whole["unigrams.bin"]), "unigrams.bin is damaged"),
        ("index.json", b"{", "index.json is damaged"),
        ("index.json", whole["index.json"].replace(b'"uint8"', b'"object"'), "index.json is damaged"),
        ("tokenizer.json", b"{", "is not a saved tokenizer"),
    ]:
        (store / name).write_bytes(content)
        with pytest.raises(UserError, match=said):
            TokenStore(store)
        (store / name).write_bytes(whole[name])
    (store / "test-00000.bin").unlink()
    with pytest.raises(UserError, match="test-00000.bin cannot be read"):
        TokenStore(store)


def test_an_id_beyond_the_vocabulary_is_found_where_sums_are_not_checked(source, tmp_path, monkeypatch):
    build(config(source, tokenizer="bpe:300"), tmp_path / "store")
    monkeypatch.setattr("addnorm.data.tokens.token_store.CHECKED_BYTES", 0)
    shard = tmp_path / "store" / "train-00000.bin"
    shard.write_bytes(b"\xff" * shard.stat().st_size)
    store = TokenStore(tmp_path / "store")
    with pytest.raises(UserError, match="holds the id 65535, its tokenizer has only 300: a shard is damaged"):
        WindowStream(store.splits["train"]).batch(0, 0, 2, 8)
    with pytest.raises(UserError, match="its SHA-256"):
        store.verify()


def test_another_tokenizer_is_refused(source, tmp_path):
    build(config(source, tokenizer="bpe:300"), tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    store.check_tokenizer("bpe:300")
    store.check_tokenizer("whatever", kept=store.tokenizer)
    store.check_tokenizer(f"hf:{tmp_path / 'store'}")  # the same one under another name
    with pytest.raises(UserError, match="made with the tokenizer bpe:300, the run has byte; use --tokenizer bpe:300"):
        store.check_tokenizer("byte")
    with pytest.raises(UserError, match="another tokenizer than the run was trained with"):
        store.check_tokenizer("bpe:300", kept=ByteTokenizer())


class Streamed(list):
    """A streamed split of a data set."""

    def skip(self, count):
        return self[count:]


@pytest.fixture
def hub(monkeypatch):
    module = types.ModuleType("datasets")
    rows = [{"text": f"row {i} of the set", "story": f"story {i}"} for i in range(300)]
    module.splits = {"train": Streamed(rows), "validation": Streamed(rows[:5]), "test": Streamed(rows[5:9])}
    module.asked = []

    def load_dataset(name, config=None, streaming=False):
        module.asked.append((name, config, streaming))
        return module.splits

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_a_data_set_is_streamed_in_its_own_splits(hub, tmp_path):
    build(config("hf:someone/stories:small:story"), tmp_path / "store")
    assert set(hub.asked) == {("someone/stories", "small", True)}
    store = TokenStore(tmp_path / "store")
    assert documents_of(store, "test") == [f"story {i}" for i in range(5, 9)]


def test_a_streamed_build_goes_on_behind_the_rows_it_has(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store_build, "SAVED_CHARACTERS", 500)
    del hub.splits["test"]
    build(config("hf:someone/stories"), tmp_path / "whole")
    for documents in (100, 150):
        with pytest.raises(Stop):
            build(config("hf:someone/stories"), tmp_path / "b", resume=True, on_progress=stopping_after(documents))
    build(config("hf:someone/stories"), tmp_path / "b", resume=True)
    assert files(tmp_path / "b") == files(tmp_path / "whole")


def test_a_bad_row_is_told_with_its_number(hub, tmp_path):
    hub.splits["train"][41] = {"text": None}
    with pytest.raises(
        UserError, match="split train, row 42: the column 'text' is nothing, not text; `datasets` makes that"
    ):
        build(config("hf:someone/stories"), tmp_path / "store")
    assert build(config("hf:someone/stories", skip_bad=True), tmp_path / "store")["bad_records"]["count"] == 1


PEAK = """
import resource, sys; from pathlib import Path
from addnorm.data.tokens.token_store_build import build; from addnorm.data.tokens.tokenizing import TokenizeConfig
build(TokenizeConfig(source=sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path):
    line = json.dumps({"text": "to be or not to be, that is the question " * 25}) + "\n"
    peaks = []
    for megabytes in (4, 30):
        source = tmp_path / f"{megabytes}.jsonl"
        with source.open("w") as file:
            for i in range(megabytes * 10**6 // len(line)):
                file.write(line.replace("to be", f"to be {i}", 1))
        words = [sys.executable, "-c", PEAK, str(source), str(tmp_path / f"store{megabytes}")]
        peaks.append(int(subprocess.run(words, capture_output=True, check=True, text=True).stdout))
    # 26 MB more of text; 10 MB is what an allocator's fragments may take.
    assert peaks[1] - peaks[0] < 10e6, peaks
    taken = []
    for megabytes in (4, 30):
        tracemalloc.start()
        stream = WindowStream(TokenStore(tmp_path / f"store{megabytes}").splits["train"])
        for step in range(200):
            stream.batch(0, step, 16, 128)
        taken.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Permutation, batch and index; the shards are mapped.
    assert taken[1] < taken[0] + 200_000, taken
    assert taken[1] < 2e6, taken


def test_a_small_store_is_a_store_and_other_folders_are_none(source, tmp_path):
    build(config(source), tmp_path / "store")
    assert is_store(tmp_path / "store") and is_store(str(tmp_path / "store"))
    assert not is_store(tmp_path) and not is_store("shakespeare") and not is_store("a" * 5000)
    assert (tmp_path / "store" / tokenizer.FILE).exists()


def named_splits(tmp_path):
    """Of 10 held-out validation documents 3 are in training too, one of those twice there; of 200 for test one."""
    train = write_records(tmp_path / "train.jsonl", 400, "t")
    held = write_records(tmp_path / "valid.jsonl", 7, "v") + [train[5].upper(), f"  {train[5]}\n", train[300]]
    tests = write_records(tmp_path / "test.jsonl", 199, "s") + [train[7]]
    for name, texts in (("valid", held), ("test", tests)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return train


def test_held_out_documents_that_stand_in_training_are_counted(tmp_path):
    named_splits(tmp_path)
    with pytest.warns(
        RepeatWarning, match="30.0% of the validation documents and 0.5% of the test documents of .* too"
    ):
        index = build(config(tmp_path), tmp_path / "store")
    assert index["repeats"] == {"validation": 3, "test": 1, "left_out": 0}
    assert index["splits"]["train"]["documents"] == 400
    assert TokenStore(tmp_path / "store").notes == tuple(index["notes"]) and "30.0%" in index["notes"][0]


@pytest.mark.parametrize("name", ["byte", "bpe:300"])
def test_repeats_can_be_left_out_of_training(tmp_path, name, recwarn):
    train = named_splits(tmp_path)
    index = build(config(tmp_path, tokenizer=name, drop_repeats=True), tmp_path / "store")
    assert not [one for one in recwarn if one.category is RepeatWarning]
    assert index["repeats"] == {"validation": 3, "test": 1, "left_out": 3}
    assert index["notes"] == ["left 3 documents out of training that are held out too"]
    store = TokenStore(tmp_path / "store")
    assert documents_of(store, "train") == [text for place, text in enumerate(train) if place not in (5, 7, 300)]
    assert len(documents_of(store, "validation")) == 10
    if name != "byte":  # the vocabulary is not learned from them either
        rest = [json.dumps({"text": text}) + "\n" for place, text in enumerate(train) if place not in (5, 7, 300)]
        (tmp_path / "train.jsonl").write_text("".join(rest))
        build(config(tmp_path, tokenizer=name), tmp_path / "plain")
        assert files(tmp_path / "plain")["tokenizer.json"] == files(tmp_path / "store")["tokenizer.json"]


def test_a_build_that_is_broken_off_knows_the_repeats_it_has_met(tmp_path, monkeypatch):
    named_splits(tmp_path)
    build(config(tmp_path, drop_repeats=True), tmp_path / "whole")
    monkeypatch.setattr(token_store_build, "SAVED_CHARACTERS", 500)
    with pytest.raises(Stop):
        build(config(tmp_path, drop_repeats=True), tmp_path / "store", on_progress=stopping_after(330))
    build(config(tmp_path, drop_repeats=True), tmp_path / "store", resume=True)
    assert files(tmp_path / "store") == files(tmp_path / "whole")


def test_training_documents_that_are_all_held_out_are_refused(tmp_path):
    write_records(tmp_path / "train.jsonl", 9)
    for name in ("valid", "test"):
        write_records(tmp_path / f"{name}.jsonl", 9)
    with pytest.raises(UserError, match="all training documents of .* are held out too"):
        build(config(tmp_path, drop_repeats=True), tmp_path / "store")


def test_a_store_made_with_repeats_cannot_be_trained_on_without(tmp_path, source):
    build(config(source), tmp_path / "store")
    wanted = RunConfig(data=str(tmp_path / "store"), drop_repeats=True)
    with pytest.raises(UserError, match="is a token store.* addnorm tokenize --drop-repeats"):
        LanguageModeling().prepare(wanted)
    build(config(source, drop_repeats=True), tmp_path / "without")
    LanguageModeling().prepare(RunConfig(data=str(tmp_path / "without"), drop_repeats=True))
