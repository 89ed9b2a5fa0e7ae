"""Texts with a class, by their name on the command line: vader, vader-source, files, or hf:NAME."""

from __future__ import annotations

from addnorm.data.sets import vader
from addnorm.data.sources import tables, user_files
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.tables import Table
from addnorm.data.texts.records import LabelledText, Splits

NAMED = {"vader": vader.movie_sentiment, "vader-source": vader.text_source}
TEXT = ("text", "sentence", "review", "content", "tweet", "document")
LABEL = ("label", "class", "category", "sentiment", "target")


def load(
    source: str, *, text: str = "", label: str = "", skip_bad: bool = False, drop_repeats: bool = False
) -> Splits[LabelledText]:
    """The texts that `source` names, in three splits.

    Args:
        source: "vader" (movie reviews of one sentence, positive or negative), "vader-source" (which of four places a
            sentence is from); a TSV, CSV or JSON-lines file, a folder or a list of them as `user_files.find` takes;
            or "hf:NAME[:CONFIG]".
        text: the column of the texts: its name, or its number from 1 in a file without header; found by the usual names
            if not given.
        label: the column of the classes, in the same way.
        skip_bad: leave records out that cannot be read.
        drop_repeats: leave out of training what is held out too.

    Raises:
        UserError: the source is missing, empty, malformed (with file and line), or needs an extra.
    """
    if source in NAMED:
        return NAMED[source]()
    faults = BadRecords(skip=skip_bad)
    found = tables.load(source, [name for name in (text, label) if name], faults)
    records = {split: read(table, text=text, label=label, faults=faults) for split, table in found.items()}
    return user_files.assemble(source, records, lambda record: record.text, faults=faults, drop_repeats=drop_repeats)


def read(table: Table, *, text: str = "", label: str = "", faults: BadRecords | None = None) -> list[LabelledText]:
    """The texts of one table.

    Raises:
        UserError: a column is missing, or a field is empty (with file and line).
    """
    text, label = table.column(text, TEXT, "text"), table.column(label, LABEL, "label")
    return table.records(lambda row: LabelledText(text=row.text(text), label=row.label(label)), faults)
