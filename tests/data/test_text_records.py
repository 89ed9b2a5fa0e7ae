"""Labelled texts, pairs and translations from users' files."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from addnorm.data.sources import tables
from addnorm.data.sources.bad_records import RecordWarning
from addnorm.data.texts import labelled_text, parallel_text, sentence_pairs
from addnorm.data.texts.records import LabelledText, ScoredPair, SentencePair, Translation
from addnorm.errors import UserError


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return str(path)


def json_lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def everything(splits) -> set:
    return {*splits.train, *splits.validation, *splits.test}


ROWS = [(f"a fine day, number {n}" if n % 2 else f'he said "no" {n}', ("good", "bad")[n % 2]) for n in range(40)]
EXPECTED = {LabelledText(text=text, label=label) for text, label in ROWS}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "name, content, columns",
    [
        ("a.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS), {}),
        ("a.tsv", "id\tLabel\tSentence\n" + "".join(f"7\t{label}\t{text}\n" for text, label in ROWS), {}),
        ("a.tsv", "x\ty\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS), {"text": "x", "label": "Y"}),
        ("a.tsv", "".join(f"{label}\t{text}\n" for text, label in ROWS), {"text": "2", "label": "1"}),
        ("a.csv", "label,text\r\n" + "".join(f"{label},{quoted(text)}\r\n" for text, label in ROWS), {}),
        ("a.jsonl", json_lines(*({"text": text, "label": label} for text, label in ROWS)), {}),
    ],
)
def test_labelled_texts_are_read_from_every_format(tmp_path, name, content, columns):
    splits = labelled_text.load(write(tmp_path, name, content), **columns)
    assert everything(splits) == EXPECTED
    assert len(splits.validation) == len(splits.test) == 2


def test_own_splits_are_kept_and_the_missing_one_is_held_out(tmp_path):
    for split, rows in (("train", ROWS[:30]), ("test", ROWS[30:])):
        write(tmp_path, f"{split}.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    splits = labelled_text.load(str(tmp_path))
    assert set(splits.test) == {LabelledText(text=text, label=label) for text, label in ROWS[30:]}
    assert len(splits.train) == 28 and len(splits.validation) == 2


def test_a_quoted_field_goes_over_lines_and_later_errors_name_the_right_one(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"one\ntwo",a\nthree\n')
    with pytest.raises(UserError, match="a.csv, line 4 has 1 columns, the first line has 2"):
        labelled_text.load(path)


@pytest.mark.parametrize(
    "name, content, columns, message",
    [
        ("a.tsv", "text\tlabel\n", {}, "has no record for train"),
        ("a.tsv", "text\tlabel\nfine\n", {}, "line 2 has 1 columns, the first line has 2; separate them by tabs"),
        ("a.tsv", "text\tlabel\nfine\ta\n \tb\n", {}, "line 3: 'text' is empty"),
        ("a.tsv", "one\ttwo\nx\ty\n", {}, "has the columns one, two; none is called text or .*text=NAME, or by number"),
        ("a.tsv", "text\tlabel\nx\ty\n", {"label": "lable"}, "column of .* 'lable' is unknown; did you mean 'label'"),
        ("a.tsv", "x\ty\nx\ty\n", {"text": "1", "label": "3"}, "column of .* '3' is unknown"),
        ("a.tsv", "text\tlabel\ttext\nx\ty\tz\n", {}, "the header names a column twice"),
        ("a.tsv", "text\tlabel\nx\ty\n", {}, "too few to hold 10% out"),
        ("a.csv", 'text,label\nx,"y"z\n', {}, "line 2: .*quote a field"),
        ("a.csv", 'text,label\n"x,y\n', {}, "line 2: unexpected end of data"),
        ("a.jsonl", '{"text": "x", "label": "y"}\n{"text": \n', {}, "line 2 is not JSON"),
        ("a.tsv", "text\tlabel\nx\ty\nso\tsad\tz\n", {}, "line 3 has 3 columns, the first line has 2; take tabs"),
        ("a.csv", "text,label\nx,y\nwell, so,z\n", {}, "line 3 has 3 columns, the first line has 2; quote a field"),
        ("a.tsv", "x\ty\nx\ty\tz\n", {"text": "1", "label": "2"}, "line 2 has 3 columns, the first line has 2"),
        ("a.jsonl", '{"text": NaN, "label": "y"}\n', {}, "line 1: 'text' is the number nan, not text"),
        ("a.jsonl", "[" * 5000 + "\n", {}, "line 1 is not JSON .brackets are nested"),
        ("a.jsonl", "[1]\n", {}, "line 1 is a JSON list; write one object"),
        (
            "a.jsonl",
            '{"text": "x", "label": "y"}\n\n{"text": "x"}\n',
            {},
            "line 3 has no 'label', which other lines have",
        ),
        ("a.jsonl", '{"text": ["x"], "label": "y"}\n', {}, "line 1: 'text' is list, not text"),
        ("a.jsonl", '{"text": null, "label": "y"}\n', {}, "line 1: 'text' is nothing, not text"),
    ],
)
def test_mistakes_in_tables_are_one_clear_line(tmp_path, name, content, columns, message):
    with pytest.raises(UserError, match=message) as caught:
        labelled_text.load(write(tmp_path, name, content), **columns)
    assert "\n" not in str(caught.value) and name in str(caught.value)


SNLI = [
    {"gold_label": label, "sentence1": f"premise {n // 3}", "sentence2": f"hypothesis {n}", "pairID": str(n)}
    for n, label in enumerate(["entailment", "neutral", "contradiction"] * 20 + ["-", "-"])
]


def test_snli_is_read_and_pairs_without_gold_label_are_counted(tmp_path):
    for name, rows in (("snli_1.0_train", SNLI), ("snli_1.0_dev", SNLI[:9]), ("snli_1.0_test", SNLI[-5:])):
        write(tmp_path, f"{name}.jsonl", json_lines(*rows))
    splits = sentence_pairs.load(str(tmp_path))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [60, 9, 3]
    skipped = ("skipped 2 train pairs without gold label", "skipped 2 test pairs without gold label")
    assert splits.notes[:2] == skipped
    assert splits.train[1] == SentencePair(first="premise 0", second="hypothesis 1", label="neutral")


def test_pairs_of_one_premise_are_held_out_together(tmp_path):
    splits = sentence_pairs.load(write(tmp_path, "x.jsonl", json_lines(*SNLI)))
    first = [{pair.first for pair in part} for part in (splits.train, splits.validation, splits.test)]
    assert first[1] and first[2] and not first[0] & first[1] and not first[0] & first[2] and not first[1] & first[2]


SICK = "pair_ID\tsentence_A\tsentence_B\tentailment_label\trelatedness_score\tSemEval_set\n" + "".join(
    f"{n}\tA man {n}\tA person {n}\tNEUTRAL\t{1 + n / 10}\t{split}\n"
    for n, split in enumerate(["TRAIN"] * 6 + ["TRIAL"] * 2 + ["TEST"] * 3)
)


def test_sick_is_read_in_its_own_splits_with_labels_and_with_scores(tmp_path):
    path = write(tmp_path, "SICK.txt", SICK)
    splits, scores = sentence_pairs.load(path), sentence_pairs.load_scores(path)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 2, 3]
    assert splits.test[0] == SentencePair(first="A man 8", second="A person 8", label="NEUTRAL")
    assert scores.test[0] == ScoredPair(first="A man 8", second="A person 8", score=1.8)


def test_sts_scores_are_read_with_and_without_header_and_quotes_are_text(tmp_path):
    rows = [(f'a "quote {n}', f"b {n}", n / 4) for n in range(20)]
    expected = {ScoredPair(first=one, second=two, score=score) for one, two, score in rows}
    header = "index\tsentence1\tsentence2\tscore\n"
    named = write(tmp_path, "a.tsv", header + "".join(f"{i}\t{a}\t{b}\t{s}\n" for i, (a, b, s) in enumerate(rows)))
    assert everything(sentence_pairs.load_scores(named)) == expected
    bare = write(tmp_path, "b.csv.tsv", "".join(f"main\t{s}\t{a}\t{b}\textra\n" for a, b, s in rows))
    assert everything(sentence_pairs.load_scores(bare, first="3", second="4", score="2")) == expected


@pytest.mark.parametrize("score", ["much", "nan", "inf", ""])
def test_a_score_that_is_no_number_is_named(tmp_path, score):
    path = write(tmp_path, "a.tsv", f"sentence1\tsentence2\tscore\na\tb\t{score}\n")
    with pytest.raises(UserError, match=f"a.tsv, line 2: 'score' is '{score}', not a number"):
        sentence_pairs.load_scores(path)


PAIRS = [(f"one {n}", f"uno {n}") for n in range(30)]
TRANSLATIONS = {Translation(source=one, target=uno) for one, uno in PAIRS}


@pytest.mark.parametrize(
    "name, content, columns",
    [
        ("a.tsv", "".join(f"{one}\t{uno}\n" for one, uno in PAIRS), {}),
        ("a.tsv", "".join(f"{one}\t{uno}\tCC-BY\n" for one, uno in PAIRS), {}),
        ("a.tsv", "target\tsource\n" + "".join(f"{uno}\t{one}\n" for one, uno in PAIRS), {}),
        ("a.tsv", "".join(f"{uno}\t{one}\n" for one, uno in PAIRS), {"from_": "2", "to": "1"}),
        ("a.tsv", "es\ten\n" + "".join(f"{uno}\t{one}\n" for one, uno in PAIRS), {"from_": "en", "to": "es"}),
        ("a.jsonl", json_lines(*({"src": one, "tgt": uno} for one, uno in PAIRS)), {}),
    ],
)
def test_translations_are_read_from_tables(tmp_path, name, content, columns):
    assert everything(parallel_text.load(write(tmp_path, name, content), **columns)) == TRANSLATIONS


def test_translations_are_read_from_line_files(tmp_path):
    en = write(tmp_path, "train.en", "".join(f"{one}\n" for one, _ in PAIRS) + "\n")
    es = write(tmp_path, "train.es", "".join(f"{uno}\r\n" for _, uno in PAIRS) + "\r\n")
    assert everything(parallel_text.load(f"{en}+{es}")) == TRANSLATIONS
    assert everything(parallel_text.load(f"train={en}+{es},test={en}+{es}")) == TRANSLATIONS
    assert everything(parallel_text.load(str(tmp_path))) == TRANSLATIONS
    turned = parallel_text.load(str(tmp_path), from_="es", to="en")
    assert everything(turned) == {Translation(source=uno, target=one) for one, uno in PAIRS}
    with pytest.raises(UserError, match="none ends in .fr"):
        parallel_text.load(str(tmp_path), from_="en", to="fr")
    write(tmp_path, "train.fr", "un\n")
    with pytest.raises(UserError, match="two line files are needed for train: say which with from_=en"):
        parallel_text.load(str(tmp_path))


def test_misaligned_line_files_are_refused_with_the_line(tmp_path):
    one, two = write(tmp_path, "a.en", "one\ntwo\nthree\n"), write(tmp_path, "a.es", "uno\ndos\n")
    with pytest.raises(UserError, match="a.en has 3 lines, .*a.es 2: line 3 of .*a.en has no partner"):
        parallel_text.load(f"{one}+{two}")
    write(tmp_path, "a.es", "uno\n \ntres\n")
    with pytest.raises(UserError, match="a.es, line 2 is blank, .*a.en has a sentence there"):
        parallel_text.load(f"{one}+{two}")


def test_mistakes_in_parallel_tables_are_named(tmp_path):
    with pytest.raises(UserError, match="has one column; put a tab"):
        parallel_text.load(write(tmp_path, "a.tsv", "one uno\ntwo dos\n"))
    with pytest.raises(UserError, match="line 2 has 1 columns"):
        parallel_text.load(write(tmp_path, "a.tsv", "one\tuno\ntwo\n"))
    with pytest.raises(UserError, match="gone.tsv does not exist"):
        parallel_text.load(str(tmp_path / "gone.tsv"))


class Rows(list):
    """A stand-in for a split of a data set."""

    def __init__(self, rows, features=None):
        super().__init__(rows)
        self.column_names = list(rows[0])
        self.features = features or {}


@pytest.fixture
def hub(monkeypatch):
    module = types.ModuleType("datasets")
    module.load_dataset = lambda name, config=None: module.splits
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_a_data_set_has_its_classes_by_name_and_its_own_splits(hub):
    features = {"label": types.SimpleNamespace(names=["neg", "pos"])}
    rows = [{"text": f"t{n}", "label": n % 2} for n in range(40)]
    hub.splits = {"train": Rows(rows, features), "test": Rows(rows[:3], features), "other": Rows(rows)}
    splits = labelled_text.load("hf:someone/reviews")
    assert splits.test[1] == LabelledText(text="t1", label="pos")
    assert len(splits.test) == 3 and len(splits.validation) == 2


def test_a_data_set_of_pairs_skips_those_without_label(hub):
    features = {"label": types.SimpleNamespace(names=["entailment", "neutral", "contradiction"])}
    rows = [{"premise": f"p{n}", "hypothesis": f"h{n}", "label": n % 4 - 1} for n in range(40)]
    hub.splits = {name: Rows(rows, features) for name in ("train", "validation", "test")}
    splits = sentence_pairs.load("hf:snli")
    assert len(splits.train) == 30 and splits.notes[0] == "skipped 10 train pairs without gold label"
    assert splits.train[0] == SentencePair(first="p1", second="h1", label="entailment")


def test_a_data_set_of_translations_has_a_text_for_each_language(hub):
    hub.splits = {"train": Rows([{"translation": {"en": one, "es": uno}} for one, uno in PAIRS])}
    assert everything(parallel_text.load("hf:someone/pairs")) == TRANSLATIONS
    turned = parallel_text.load("hf:someone/pairs", from_="es", to="en")
    assert Translation(source="uno 0", target="one 0") in everything(turned)
    with pytest.raises(UserError, match="has the languages en, es, not 'fr'"):
        parallel_text.load("hf:someone/pairs", from_="en", to="fr")


def test_a_data_set_without_training_split_is_refused(hub):
    hub.splits = {"test": Rows([{"text": "a", "label": "b"}])}
    with pytest.raises(UserError, match="has no split 'train', only test"):
        labelled_text.load("hf:someone/x")


def test_shipped_sets_are_reached_by_name():
    assert labelled_text.load("vader").origin == "vader"
    assert labelled_text.load("vader-source").origin == "vader-source"
    assert sentence_pairs.load("paraphrase").origin == "paraphrase"
    assert parallel_text.load("bible").origin == "bible"


def test_empty_fields_behind_the_last_column_lose_nothing(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\nx\ty\t\t\n")
    assert labelled_text.read(tables.read(Path(path), [])) == [LabelledText(text="x", label="y")]


def test_a_csv_field_may_be_longer_than_the_module_allows_by_itself(tmp_path):
    path = write(tmp_path, "a.csv", f"text,label\n{'long ' * 40_000},y\n")
    assert len(tables.read(Path(path), []).rows[0].values["text"]) == 200_000


def test_a_field_that_only_the_first_json_line_has_is_no_fault(tmp_path):
    lines = '{"text": "x", "label": "y", "comment": "first"}\n{"text": "u", "label": "v"}\n'
    found = labelled_text.read(tables.read(Path(write(tmp_path, "a.jsonl", lines)), []))
    assert [record.label for record in found] == ["y", "v"]


def test_true_and_false_are_labels(tmp_path):
    lines = '{"text": "x", "label": true}\n{"text": "u", "label": false}\n'
    found = labelled_text.read(tables.read(Path(write(tmp_path, "a.jsonl", lines)), []))
    assert [record.label for record in found] == ["true", "false"]


def many(lines, bad):
    good = [f"text number {number}\t{'ab'[number % 2]}" for number in range(lines)]
    return "text\tlabel\n" + "\n".join([*good, *bad]) + "\n"


def test_bad_records_are_left_out_counted_and_named(tmp_path):
    path = write(tmp_path, "a.tsv", many(100, ["no label", "one\ttoo\tmany", " \ta", "x\t"]))
    with pytest.raises(UserError, match=r"line 102 has 1 columns.*with --skip-bad"):
        labelled_text.load(str(path))
    with pytest.warns(RecordWarning, match=r"left out 4 of the 104 records .*line 102 .*line 103 .*line 104.*; \.\.\."):
        splits = labelled_text.load(str(path), skip_bad=True)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 100
    assert splits.notes[0].startswith("left out 4 of the 104 records")


def test_more_bad_records_than_a_tenth_stop_all_the_same(tmp_path):
    path = write(tmp_path, "a.tsv", many(50, ["no label"] * 10))
    with pytest.raises(UserError, match="10 of the 60 records .* more than the 10% that --skip-bad leaves out"):
        labelled_text.load(str(path), skip_bad=True)


def test_bad_pairs_and_translations_are_left_out_too(tmp_path):
    rows = [f"first {number}\tsecond {number}\t{number % 2}" for number in range(100)]
    path = write(tmp_path, "a.tsv", "\n".join(["sentence1\tsentence2\tlabel", *rows, "one\t\t1"]) + "\n")
    for load in (sentence_pairs.load, sentence_pairs.load_scores):
        with pytest.warns(RecordWarning, match="left out 1 of the 101 records"):
            load(str(path), skip_bad=True)
    text = write(tmp_path, "b.tsv", "".join(f"one {n}\tuno {n}\tsource {n}\n" for n in range(100)) + "two\n")
    with pytest.warns(RecordWarning, match="left out 1 of the 101 records"):
        parallel_text.load(str(text), skip_bad=True)


def test_translations_without_a_header_may_have_uneven_rows(tmp_path):
    path = write(tmp_path, "a.tsv", "one\tuno\ntwo\tdos\tCC-BY 2.0\n")
    assert [pair.target for pair in parallel_text.read(str(path))] == ["uno", "dos"]
