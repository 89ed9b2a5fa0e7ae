"""Sentences in two languages, by their name on the command line: bible, TSV, two line files, or hf:NAME."""

from __future__ import annotations

from pathlib import Path

from addnorm.data.sets import bible
from addnorm.data.sources import split_names, tables, text_file, user_files
from addnorm.data.sources.bad_records import BadRecord, BadRecords
from addnorm.data.sources.hidden_files import shown_here
from addnorm.data.sources.tables import Table, TableRow
from addnorm.data.texts.records import Splits, Translation
from addnorm.errors import UserError

NAMED = {"bible": bible.translation_pairs}
SOURCE = ("source", "src", "from", "en", "english")
TARGET = ("target", "tgt", "to", "translation")


def load(
    source: str, *, from_: str = "", to: str = "", skip_bad: bool = False, drop_repeats: bool = False
) -> Splits[Translation]:
    """The translations that `source` names, in three splits.

    Args:
        source: "bible" (World English Bible to Reina-Valera 1909); a TSV, CSV or JSON-lines file; two files with a
            sentence a line, "text.en+text.es"; a folder with such files (train.tsv, or train.en and train.es, ...); a
            list, as in "train=a.en+a.es,test=b.en+b.es"; or "hf:NAME[:CONFIG]".
        from_: the column of the source sentences, by name or by number from 1; for line files in a folder, their
            ending (en).
        to: the same for the target sentences. By default a TSV file has the source first and no header, unless its
            first line names columns; line files are taken in the alphabetical order of their endings.
        skip_bad: leave records out that cannot be read.
        drop_repeats: leave out of training what is held out too.

    Raises:
        UserError: the source is missing, empty, misaligned or malformed (with file and line), or needs an extra.
    """
    if source in NAMED:
        return NAMED[source]()
    faults = BadRecords(skip=skip_bad)
    if source.startswith("hf:"):
        found = tables.load(source, [])
        records = {split: _read_hub(table, from_, to, faults) for split, table in found.items()}
    else:
        paths = _line_files_of_folder(source, from_, to) or user_files.find(source, tables.SUFFIXES)
        records = {split: read(path, from_=from_, to=to, faults=faults) for split, path in paths.items()}
    return user_files.assemble(source, records, lambda pair: pair.source, faults=faults, drop_repeats=drop_repeats)


def read(path: str, *, from_: str = "", to: str = "", faults: BadRecords | None = None) -> list[Translation]:
    """The translations in a table, or in two line files "SOURCE+TARGET".

    Raises:
        UserError: a file is missing, empty, misaligned or malformed (with file and line).
    """
    one, plus, other = path.partition("+")
    if plus and not Path(path).expanduser().exists():
        return read_line_files(one, other, faults)
    if from_ and to:
        return _read_table(tables.read(path, [from_, to], faults, uneven=True), from_, to, faults)
    suffix = text_file.place(path)[0].suffix.lower()
    if suffix in (".tsv", ".txt", ".csv") and not _has_header(path):
        return _read_table(tables.read(path, ["1", "2"], faults, uneven=True), "1", "2", faults)
    return _read_table(tables.read(path, [], faults), from_, to, faults)


def read_line_files(one: Path | str, other: Path | str, faults: BadRecords | None = None) -> list[Translation]:
    """The translations in two files, line by line; lines that are blank in both are skipped.

    Raises:
        UserError: the files differ in length, or a line is blank in one of them.
    """
    (source, of_source), (target, of_target) = text_file.place(one), text_file.place(other)
    ones, others = text_file.read_lines(source, of_source), text_file.read_lines(target, of_target)
    if len(ones) != len(others):
        longer = source if len(ones) > len(others) else target
        raise UserError(
            f"{source} has {len(ones)} lines, {target} {len(others)}: line {min(len(ones), len(others)) + 1} of "
            f"{longer} has no partner; both files must have one sentence a line, in the same order."
        )
    faults = faults or BadRecords(skip=False)

    def pair(number: int, one: str, other: str) -> Translation:
        if bool(one) != bool(other):
            blank, full = (target, source) if one else (source, target)
            raise BadRecord(
                f"{blank}, line {number} is blank, {full} has a sentence there; align the files line by line."
            )
        return Translation(source=one, target=other)

    lines = (
        (number, one.strip(), other.strip()) for number, (one, other) in enumerate(zip(ones, others, strict=True), 1)
    )
    found = (faults.take(pair, *line) for line in lines if line[1] or line[2])
    return [translation for translation in found if translation is not None]


def _read_table(table: Table, from_: str, to: str, faults: BadRecords | None) -> list[Translation]:
    if len(table.columns) < 2:
        raise UserError(f"{table.name} has one column; put a tab between a sentence and its translation.")
    one, other = table.column(from_, SOURCE, "from_"), table.column(to, TARGET, "to")
    return table.records(lambda row: Translation(source=row.text(one), target=row.text(other)), faults)


def _has_header(path: str) -> bool:
    names = {column.lower() for column in tables.first_line(path)}
    return bool(names.intersection(SOURCE)) and bool(names.intersection(TARGET))


def _read_hub(table: Table, from_: str, to: str, faults: BadRecords) -> list[Translation]:
    """A data set's pairs: two columns, or the column `translation` with a text for each language."""
    if "translation" not in table.columns or not isinstance(table.rows[0].values["translation"], dict):
        return _read_table(table, from_, to, faults)
    languages = list(table.rows[0].values["translation"])
    one, other = from_ or languages[0], to or languages[1]
    for language in (one, other):
        if language not in languages:
            raise UserError(
                f"{table.name} has the languages {', '.join(languages)}, not '{language}'; use one of them."
            )

    def pair(row: TableRow) -> Translation:
        both = TableRow(where=row.where, values=row.values["translation"] or {})
        return Translation(source=both.text(one), target=both.text(other))

    return table.records(pair, faults)


def _line_files_of_folder(source: str, from_: str, to: str) -> dict[str, str]:
    """The pairs of line files in a folder, train.en and train.es for example, as "SOURCE+TARGET"."""
    folder, encoding = text_file.place(source)
    if not source or not folder.is_dir():
        return {}
    found: dict[str, str] = {}
    for split, stems in split_names.NAMES.items():
        files = [
            path for path in shown_here(folder) if path.stem.lower() in stems and path.suffix not in tables.SUFFIXES
        ]
        endings = {path.suffix.removeprefix("."): path for path in files if path.is_file()}
        if not endings:
            continue
        if not (from_ and to) and len(endings) != 2:
            raise UserError(
                f"{folder} has {', '.join(path.name for path in files)}; two line files are needed for {split}: "
                "say which with from_=en, to=es."
            )
        names = (from_, to) if from_ and to else tuple(endings)
        for name in names:
            if name not in endings:
                raise UserError(f"{folder} has {', '.join(path.name for path in files)}, none ends in .{name}; add it.")
        found[split] = "+".join(text_file.named(endings[name], encoding) for name in names)
    return found
