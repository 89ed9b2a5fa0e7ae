from __future__ import annotations

import warnings

import pytest

from addnorm.config import RunConfig
from addnorm.data.texts import labelled_text, plain_text, sentence_pairs
from addnorm.data.texts.repeats import RepeatWarning
from addnorm.errors import UserError
from addnorm.tasks import prepare


def line(number: int) -> str:
    return f"This is the passage with the number {number} of all.\n"


def texts(folder, train, test):
    folder.mkdir(exist_ok=True)
    (folder / "train.txt").write_text("".join(map(line, train)))
    (folder / "valid.txt").write_text("".join(map(line, range(9000, 9100))))
    (folder / "test.txt").write_text("".join(map(line, test)))
    return str(folder)


def test_text_that_is_held_out_and_trained_on_is_counted_and_warned_of(tmp_path):
    source = texts(tmp_path, range(1000, 2000), range(1975, 2075))
    with pytest.warns(RepeatWarning, match=r"25\.0% of the test text of .* stands in training too.*--drop-repeats"):
        splits = plain_text.load(source)
    assert splits.notes == (f"25.0% of the test text of {source} stands in training too",)


def test_case_and_spaces_do_not_hide_a_repeat(tmp_path):
    source = texts(tmp_path, range(1000, 2000), range(3000, 3001))
    (tmp_path / "test.txt").write_text(line(1500).upper().replace(" ", "  "))
    with pytest.warns(RepeatWarning, match="100.0% of the test text"):
        plain_text.load(source)


def test_repeats_are_left_out_of_training_and_of_nothing_else(tmp_path):
    source = texts(tmp_path, range(1000, 2000), range(1975, 2075))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = plain_text.load(source, drop_repeats=True)
    assert splits.train[0].text == "".join(map(line, range(1000, 1975)))
    assert splits.test[0].text == "".join(map(line, range(1975, 2075)))
    assert splits.notes == (f"left {25 * len(line(1000)):,} characters out of training that are held out too",)


def test_a_few_repeats_are_noted_without_a_warning(tmp_path):
    source = texts(tmp_path, range(1000, 2000), range(1999, 2199))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain_text.load(source).notes[0].startswith("0.5% of the test text")


def test_a_run_says_how_much_is_repeated(tmp_path):
    source = texts(tmp_path, range(1000, 2000), range(1975, 2075))
    with pytest.warns(RepeatWarning):
        facts = prepare(RunConfig(data=source)).facts()
    assert facts["notes"] == [f"25.0% of the test text of {source} stands in training too"]
    assert "left" in prepare(RunConfig(data=source, drop_repeats=True)).facts()["notes"][0]


def test_text_that_is_all_held_out_is_refused(tmp_path):
    with pytest.raises(UserError, match="all training text of .* is held out too"):
        plain_text.load(texts(tmp_path, range(1000, 1010), range(1000, 1010)), drop_repeats=True)


def labelled(folder, name, numbers):
    rows = [f"{line(number).strip()}\t{number % 2}" for number in numbers]
    (folder / name).write_text("\n".join(["text\tlabel", *rows]) + "\n")


def test_records_that_are_held_out_and_trained_on_are_counted_and_can_be_left_out(tmp_path):
    labelled(tmp_path, "train.tsv", range(1000, 1100))
    labelled(tmp_path, "dev.tsv", range(2000, 2010))
    labelled(tmp_path, "test.tsv", range(1098, 1118))
    with pytest.warns(RepeatWarning, match="10.0% of the test records"):
        whole = labelled_text.load(str(tmp_path))
    assert len(whole.train) == 100
    kept = labelled_text.load(str(tmp_path), drop_repeats=True)
    assert (len(kept.train), len(kept.test)) == (98, 20)
    assert kept.notes == ("left 2 records out of training that are held out too",)


def test_a_pair_is_repeated_only_as_a_whole(tmp_path):
    for name, second in (("train", "one"), ("dev", "two"), ("test", "three")):
        rows = [f"the same first {number}\t{second} {number}\t{number % 2}" for number in range(50)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sentence_pairs.load(str(tmp_path)).notes == ()
