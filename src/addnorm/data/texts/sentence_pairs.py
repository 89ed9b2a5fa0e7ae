"""Pairs of sentences with a label or a score: verse paraphrase, SNLI, MNLI, SICK, STS, files, or hf:NAME."""

from __future__ import annotations

from addnorm.data.sets import paraphrase
from addnorm.data.sources import tables, user_files
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.tables import Table, TableRow
from addnorm.data.texts.records import ScoredPair, SentencePair, Splits

NAMED = {"paraphrase": paraphrase.paraphrase_pairs}
FIRST = ("sentence1", "sentence_a", "premise", "first", "text1", "question1")
SECOND = ("sentence2", "sentence_b", "hypothesis", "second", "text2", "question2")
LABEL = ("gold_label", "entailment_judgment", "entailment_label", "label", "is_duplicate")
SCORE = ("score", "relatedness_score", "similarity_score", "similarity", "label")
NO_GOLD_LABEL = "-"
"""SNLI's and MNLI's mark of a pair on whose label the annotators did not agree; such a pair is skipped and counted."""
_SICK_SPLIT = "SemEval_set"
_SICK_SPLITS = {"TRAIN": "train", "TRIAL": "validation", "TEST": "test"}


def load(
    source: str,
    *,
    first: str = "",
    second: str = "",
    label: str = "",
    skip_bad: bool = False,
    drop_repeats: bool = False,
) -> Splits[SentencePair]:
    """The labelled pairs that `source` names, in three splits.

    Args:
        source: "paraphrase"; JSON-lines files of SNLI or MNLI, SICK's text file (in its own splits), TSV, CSV, a
            folder or a list of them as `user_files.find` takes; or "hf:NAME[:CONFIG]".
        first: the column of the first sentences: its name, or its number from 1 in a file without header; found by
            the usual names if not given.
        second: the column of the second sentences, in the same way.
        label: the column of the labels, in the same way.
        skip_bad: leave records out that cannot be read.
        drop_repeats: leave out of training what is held out too.

    Raises:
        UserError: the source is missing, empty, malformed (with file and line), or needs an extra.
    """
    if source in NAMED:
        return NAMED[source]()
    faults = BadRecords(skip=skip_bad)
    found = _tables(source, [name for name in (first, second, label) if name], faults)
    records: dict[str, list[SentencePair]] = {}
    notes = []
    for split, table in found.items():
        records[split], skipped = read(table, first=first, second=second, label=label, faults=faults)
        if skipped:
            notes.append(f"skipped {skipped} {split} pairs without gold label")
    return user_files.assemble(source, records, lambda pair: pair.first, notes, faults, drop_repeats)


def load_scores(
    source: str,
    *,
    first: str = "",
    second: str = "",
    score: str = "",
    skip_bad: bool = False,
    drop_repeats: bool = False,
) -> Splits[ScoredPair]:
    """The scored pairs that `source` names, in three splits; the arguments are those of `load`."""
    faults = BadRecords(skip=skip_bad)
    found = _tables(source, [name for name in (first, second, score) if name], faults)
    columns = {"first": first, "second": second, "score": score}
    records = {split: read_scores(table, **columns, faults=faults) for split, table in found.items()}
    return user_files.assemble(source, records, lambda pair: pair.first, faults=faults, drop_repeats=drop_repeats)


def read(
    table: Table, *, first: str = "", second: str = "", label: str = "", faults: BadRecords | None = None
) -> tuple[list[SentencePair], int]:
    """The labelled pairs of one table, and how many were skipped because they have no gold label.

    Raises:
        UserError: a column is missing, or a field is empty (with file and line).
    """
    one, other = table.column(first, FIRST, "first"), table.column(second, SECOND, "second")
    name = table.column(label, LABEL, "label")
    faults = faults or BadRecords(skip=False)
    labels = [faults.take(row.label, name) for row in table.rows]
    labelled = zip(table.rows, labels, strict=True)
    kept = [(row, label) for row, label in labelled if label is not None and label != NO_GOLD_LABEL]

    def pair(row: TableRow, label: str) -> SentencePair:
        return SentencePair(first=row.text(one), second=row.text(other), label=label)

    pairs = [found for row, label in kept if (found := faults.take(pair, row, label)) is not None]
    return pairs, labels.count(NO_GOLD_LABEL)


def read_scores(
    table: Table, *, first: str = "", second: str = "", score: str = "", faults: BadRecords | None = None
) -> list[ScoredPair]:
    """The scored pairs of one table.

    Raises:
        UserError: a column is missing, a sentence is empty, or a score is no number (with file and line).
    """
    one, other = table.column(first, FIRST, "first"), table.column(second, SECOND, "second")
    name = table.column(score, SCORE, "score")

    def pair(row: TableRow) -> ScoredPair:
        return ScoredPair(first=row.text(one), second=row.text(other), score=row.number(name))

    return table.records(pair, faults)


def _tables(source: str, wanted: list[str], faults: BadRecords) -> dict[str, Table]:
    """The tables of a source; SICK's single file is cut into the splits its last column names."""
    found = tables.load(source, wanted, faults)
    whole = found.get("train")
    if len(found) > 1 or whole is None or _SICK_SPLIT not in whole.columns:
        return found
    parts: dict[str, list[TableRow]] = {}
    for row in whole.rows:
        parts.setdefault(_SICK_SPLITS.get(row.text(_SICK_SPLIT), "train"), []).append(row)
    return {split: Table(name=whole.name, columns=whole.columns, rows=tuple(rows)) for split, rows in parts.items()}
