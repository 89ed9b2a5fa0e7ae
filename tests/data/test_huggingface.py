from __future__ import annotations

import datetime
import sys
import types

import pytest

from addnorm.data.sources import huggingface, streamed_dataset
from addnorm.data.sources.bad_records import BadRecords, RecordWarning
from addnorm.data.sources.pieces import Place
from addnorm.data.texts import labelled_text, parallel_text, plain_text
from addnorm.data.texts.text import joined
from addnorm.errors import UserError


class Rows(list):
    """A stand-in for a split of a data set: rows and the names of their columns."""

    column_names = ("text", "label")


def rows(count: int, size: int = 1000, mark: str = "r") -> Rows:
    return Rows({"text": f"{mark}{number} ".ljust(size, "x"), "label": number} for number in range(count))


@pytest.fixture
def hub(monkeypatch):
    """The package `datasets` with one data set; what was asked of it is kept in `asked`."""
    module = types.ModuleType("datasets")
    module.splits, module.asked = {}, []

    def load_dataset(name, config=None):
        module.asked.append((name, config))
        if name == "gone":
            raise FileNotFoundError("Dataset 'gone' doesn't exist on the Hub\nsecond line")
        return module.splits

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the extra hf; run: pip install 'addnorm\[hf\]'"):
        plain_text.load("hf:someone/stories")


@pytest.mark.parametrize(
    "source, asked",
    [
        ("hf:someone/stories", ("someone/stories", None)),
        ("hf:someone/stories:small", ("someone/stories", "small")),
        ("hf:someone/stories::text", ("someone/stories", None)),
        ("hf:someone/stories:small:text", ("someone/stories", "small")),
    ],
)
def test_name_config_and_column_are_read(hub, source, asked):
    hub.splits = {"train": rows(400)}
    plain_text.load(source)
    assert hub.asked == [asked]


def test_own_splits_are_kept(hub):
    hub.splits = {"train": rows(3), "validation": rows(2, mark="v"), "test": rows(1, mark="t"), "other": Rows("??")}
    splits = plain_text.load("hf:someone/stories")
    assert joined(splits.train).startswith("r0 ") and joined(splits.train).count("r") == 3
    assert joined(splits.validation).startswith("v0 ")
    assert joined(splits.test).startswith("t0 ")


def test_without_own_splits_whole_blocks_are_held_out(hub):
    hub.splits = {"train": rows(1000)}
    splits = plain_text.load("hf:someone/stories")
    together = [row for split in (splits.train, splits.validation, splits.test) for row in joined(split).split("\n\n")]
    assert sorted(together) == sorted(row["text"] for row in hub.splits["train"])
    assert len(splits.validation) == len(splits.test) == 1
    assert len(splits.train) == 8


def test_a_web_sized_set_is_cut_off(hub, monkeypatch):
    monkeypatch.setattr(huggingface, "MAX_BLOCKS", 5)
    hub.splits = {"train": rows(1000)}
    splits = plain_text.load("hf:someone/stories")
    assert len(splits.train + splits.validation + splits.test) == 5


def test_empty_rows_are_left_out(hub):
    hub.splits = {name: Rows([{"text": ""}, {"text": "words"}, {"text": " \n"}]) for name in ("train", "dev", "test")}
    assert joined(plain_text.load("hf:someone/stories").train) == "words"


@pytest.mark.parametrize(
    "source, splits, message",
    [
        ("hf:", {}, "data 'hf:' is not understood; use hf:NAME"),
        ("hf:a:b:c:d", {}, "is not understood"),
        ("hf:gone", {}, "cannot be loaded .Dataset 'gone' doesn't exist on the Hub.; use"),
        ("hf:a", {"test": rows(1)}, "has no split 'train', only test"),
        ("hf:a", {"train": rows(5)}, "too little text to hold some out"),
        ("hf:a", {"train": Rows()}, "has no text in column 'text' of split train"),
        ("hf:a::txet", {"train": rows(5)}, "column of hf:a::txet 'txet' is unknown; did you mean 'text'"),
        (
            "hf:a::label",
            {"train": rows(5)},
            "hf:a::label, train row 1: column 'label' holds int, not text; name a text",
        ),
    ],
)
def test_mistakes_are_one_clear_line(hub, source, splits, message):
    hub.splits = splits
    with pytest.raises(UserError, match=message) as caught:
        plain_text.load(source)
    assert "\n" not in str(caught.value)


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets", reason="the extra hf is not installed")


@pytest.mark.parametrize("kind", ["one split", "several splits", "parquet", "json lines"])
def test_the_real_package_reads_labels_and_translations_in_every_local_form(datasets, tmp_path, kind):
    labels = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["odd", "even"])})
    texts = datasets.Dataset.from_dict(
        {"text": [f"word {n}" for n in range(300)], "label": [n % 2 for n in range(300)]}, features=labels
    )
    pairs = datasets.Dataset.from_dict({"translation": [{"en": f"word {n}", "es": f"voz {n}"} for n in range(300)]})
    for name, rows in (("texts", texts), ("pairs", pairs)):
        folder = tmp_path / name
        folder.mkdir()
        {
            "one split": lambda: rows.save_to_disk(folder),  # noqa: B023  called at once
            "several splits": lambda: datasets.DatasetDict(train=rows).save_to_disk(folder),  # noqa: B023
            "parquet": lambda: rows.to_parquet(folder / "train.parquet"),  # noqa: B023
            "json lines": lambda: rows.to_json(folder / "train.jsonl"),  # noqa: B023
        }[kind]()
    found = labelled_text.load(f"hf:{tmp_path / 'texts'}")
    numbers = kind == "json lines"  # which keeps no names of classes
    odd = "0" if numbers else "odd"
    assert found.train[0].text == "word 0" and {record.label for record in found.train} == {
        odd,
        "1" if numbers else "even",
    }
    assert found.train[0].label == odd
    pair = parallel_text.load(f"hf:{tmp_path / 'pairs'}").train[0]
    assert (pair.source, pair.target) == ("word 0", "voz 0")


def test_the_real_package_streams_what_was_saved_to_disk(datasets, tmp_path):
    rows = [f"tale {n} {'x' * 990}" for n in range(400)] + [None]
    datasets.Dataset.from_dict({"text": rows}).save_to_disk(tmp_path / "saved")
    source = f"hf:{tmp_path / 'saved'}"
    splits = plain_text.load(source)
    together = "\n\n".join(joined(split) for split in (splits.train, splits.validation, splits.test))
    assert sorted(together.split("\n\n")) == sorted(row for row in rows if row)
    assert streamed_dataset.splits(source) == [("train", None)]
    streamed = streamed_dataset.rows(source, "train", None, BadRecords(skip=True), Place(line=390))
    assert [piece.text for piece in streamed] == rows[390:400]


def test_the_real_package_reads_a_local_data_set(tmp_path):
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    (tmp_path / "train.jsonl").write_text("".join(f'{{"story": "tale {n} {"x" * 990}"}}\n' for n in range(500)))
    splits = plain_text.load(f"hf:{tmp_path}::story")
    together = "\n\n".join(joined(split) for split in (splits.train, splits.validation, splits.test))
    assert sorted(line.split()[1] for line in together.split("\n\n")) == sorted(map(str, range(500)))
    with pytest.raises(UserError, match="column .* is unknown"):
        plain_text.load(f"hf:{tmp_path}::text")
    with pytest.raises(UserError, match="cannot be loaded"):
        plain_text.load(f"hf:{tmp_path / 'gone'}")


def test_rows_with_nothing_in_them_are_skipped_and_told_of(hub):
    empty = {"text": None, "label": 0}
    hub.splits = {
        "train": Rows([*rows(3), empty, empty]),
        "validation": Rows([empty, *rows(2, mark="v")]),
        "test": rows(1, mark="t"),
    }
    told = "skipped 2 rows of train and 1 rows of validation of hf:someone/stories, which have nothing in column 'text'"
    with pytest.warns(RecordWarning, match=f"{told}: .* NA and null .* give the file itself, without hf:"):
        splits = plain_text.load("hf:someone/stories")
    assert told in splits.notes
    assert joined(splits.train).count("r") == 3 and joined(splits.validation).count("v") == 2


def test_a_split_without_any_text_is_refused(hub):
    hub.splits = {"train": rows(3), "validation": Rows([{"text": None}]), "test": rows(1)}
    with pytest.raises(UserError, match="has no text in column 'text' of split validation"):
        plain_text.load("hf:someone/stories")


@pytest.mark.parametrize(
    "value, said",
    [
        (datetime.datetime(2020, 1, 2), "datetime, not text; `datasets` makes that of .*a date; give the file itself"),
        (datetime.date(2020, 1, 2), "date, not text; `datasets` makes that of .*a date; give the file itself"),
        (7, "int, not text; name a text column"),
    ],
)
def test_what_is_no_text_is_told_with_its_row_and_the_way_out(hub, value, said):
    hub.splits = {"train": Rows([*rows(2), {"text": value}])}
    with pytest.raises(UserError, match=f"hf:someone/stories, train row 3: column 'text' holds {said}"):
        plain_text.load("hf:someone/stories")


@pytest.mark.parametrize("value, kind", [(None, "nothing"), (datetime.datetime(2020, 1, 2), "datetime")])
def test_a_record_of_a_data_set_without_text_has_the_same_way_out(hub, value, kind):
    hub.splits = {"train": Rows([{"text": "one", "label": "a"}, {"text": value, "label": "b"}])}
    way = rf"row 2: 'text' is {kind}, not text; `datasets` makes that .* without hf:, to have all as text"
    with pytest.raises(UserError, match=way):
        labelled_text.load("hf:someone/reviews")
