"""Rows with named columns, from TSV, CSV and JSON-lines files and from `datasets`."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm.data.sources import huggingface, split_names, text_file, user_files
from addnorm.data.sources.bad_records import BadRecord, BadRecords, Made
from addnorm.errors import UserError, unknown
from addnorm.json_file import parsed

_LONGEST_FIELD = 2**31 - 1
"""Characters of a CSV field; the module `csv` stops at 131,072 by itself."""
SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".json")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """Values by column, and where they stand: the file and its line, or the split and its row."""

    where: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A value that is text and not blank.

        Raises:
            UserError: it is blank or something else.
        """
        value = self._value(column)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise BadRecord(f"{self.where}: '{column}' is {self._what(value)}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRecord(f"{self.where}: '{column}' is the number {value}, not text; put text there.")
        if not str(value).strip():
            raise BadRecord(f"{self.where}: '{column}' is empty; put text there, or remove the line.")
        return str(value).strip()

    def label(self, column: str) -> str:
        """A value that names a class: text, a number, or true or false.

        Raises:
            UserError: it is blank or something else.
        """
        value = self._value(column)
        return str(value).lower() if isinstance(value, bool) else self.text(column)

    def number(self, column: str) -> float:
        """A value that is a finite number.

        Raises:
            UserError: it is none.
        """
        value = self._value(column)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not abs(number) < float("inf"):
            raise BadRecord(f"{self.where}: '{column}' is '{value}', not a number; put a number there.")
        return number

    def _value(self, column: str) -> Any:
        if column not in self.values:
            raise BadRecord(f"{self.where} has no '{column}', which other lines have; add it.")
        return self.values[column]

    def _what(self, value: Any) -> str:
        if self.where.startswith("hf:") and huggingface.was_text(value):
            return huggingface.what(value)
        return f"{'nothing' if value is None else type(value).__name__}, not text; put text there"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one file or split; without a header, columns are called by their numbers from 1."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def column(self, wanted: str, usual: Sequence[str], option: str) -> str:
        """The column with a name, or the first with one of its usual names; case does not count.

        Raises:
            UserError: there is none; the columns there are and the way to choose are named.
        """
        by_name = {column.lower(): column for column in reversed(self.columns)}
        if wanted:
            if wanted.lower() not in by_name:
                raise unknown(f"column of {self.name}", wanted, self.columns)
            return by_name[wanted.lower()]
        found = next((by_name[name] for name in usual if name in by_name), None)
        if found is None:
            raise UserError(
                f"{self.name} has the columns {', '.join(self.columns[:12])}; none is called {' or '.join(usual)}: "
                f"choose one with {option}=NAME, or by number, {option}=1, in a file without header."
            )
        return found

    def records(self, make: Callable[[TableRow], Made], faults: BadRecords | None = None) -> list[Made]:
        """What is made of each row; rows that cannot be read are the business of `faults`."""
        faults = faults or BadRecords(skip=False)
        made = (faults.take(make, row) for row in self.rows)
        return [record for record in made if record is not None]


def load(source: str, wanted: Sequence[str], faults: BadRecords | None = None) -> dict[str, Table]:
    """The table of each split of a source; `wanted` and `faults` as in `read`."""
    if source.startswith("hf:"):
        return _from_hub(source)
    found = user_files.find(source, SUFFIXES)
    return {split: read(name, wanted, faults) for split, name in found.items()}


def read(file: Path | str, wanted: Sequence[str], faults: BadRecords | None = None, *, uneven: bool = False) -> Table:
    """A table in a file: JSON lines by its ending, CSV with quotes by its ending, else tabs without quotes.

    Args:
        file: its path; behind it its encoding, as `text_file.parse` takes it.
        wanted: the columns that were asked for; if all are numbers, the file has no header.
        faults: takes in malformed lines.
        uneven: lines of a file without header may have more fields than the first; else they are malformed.

    Raises:
        UserError: the file is missing, empty, not in its encoding, or a line is malformed.
    """
    faults = faults or BadRecords(skip=False)
    path, encoding = text_file.place(file)
    if path.suffix.lower() in (".jsonl", ".json"):
        return _read_json_lines(path, encoding, faults)
    lines = list(_fields(path, encoding))
    number, header = lines[0]
    if headless := bool(wanted) and all(name.isdigit() for name in wanted):
        columns = tuple(str(place) for place in range(1, len(header) + 1))
    else:
        columns = tuple(name.strip() for name in header)
        lines = lines[1:]
        if len(set(columns)) < len(columns):
            raise UserError(f"{path}, line {number}: the header names a column twice; rename one.")
    made = (faults.take(_row, path, number, columns, fields, headless and uneven) for number, fields in lines)
    return Table(name=str(path), columns=columns, rows=tuple(row for row in made if row is not None))


def first_line(file: Path | str) -> list[str]:
    """The fields of a file's first line that is not blank."""
    return [field.strip() for field in next(_fields(*text_file.place(file)))[1]]


def _fields(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank; a quoted CSV field may go over lines."""
    lines = text_file.read_lines(path, encoding)
    if path.suffix.lower() != ".csv":
        yield from ((number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip())
        return
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield from _csv_fields(path, lines)
    finally:
        csv.field_size_limit(before)


def _csv_fields(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    start = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {start}: {error}; quote a field that has a comma or a quote in it.") from None


def _row(path: Path, number: int, columns: tuple[str, ...], fields: list[str], uneven: bool) -> TableRow:
    mark = "comma" if path.suffix.lower() == ".csv" else "tab"
    if len(fields) < len(columns):
        raise BadRecord(
            f"{path}, line {number} has {len(fields)} columns, the first line has {len(columns)}; "
            f"separate them by {mark}s, and add what is missing."
        )
    if not uneven and any(field.strip() for field in fields[len(columns) :]):
        mend = "quote a field that has a comma in it" if mark == "comma" else "take tabs out of the text"
        raise BadRecord(f"{path}, line {number} has {len(fields)} columns, the first line has {len(columns)}; {mend}.")
    return TableRow(where=f"{path}, line {number}", values=dict(zip(columns, fields, strict=False)))


def _read_json_lines(path: Path, encoding: str, faults: BadRecords) -> Table:
    rows, columns = [], {}
    for number, line in enumerate(text_file.read_lines(path, encoding), start=1):
        row = faults.take(_json_row, f"{path}, line {number}", line) if line.strip() else None
        if row is not None:
            columns.update(dict.fromkeys(row.values))
            rows.append(row)
    return Table(name=str(path), columns=tuple(columns), rows=tuple(rows))


def _json_row(where: str, line: str) -> TableRow:
    try:
        values = parsed(line)
    except ValueError as error:
        raise BadRecord(f"{where} is not JSON ({error}); write one object a line.") from None
    if not isinstance(values, dict):
        raise BadRecord(f"{where} is a JSON {type(values).__name__}; write one object {{...}} a line.")
    return TableRow(where=where, values=values)


def _from_hub(source: str) -> dict[str, Table]:
    """The splits of a data set; numbers that stand for classes become the classes' names."""
    name, config, _ = huggingface.parse(source)
    splits = huggingface.load_dataset(source, name, config)
    tables = {}
    for split, own in split_names.of_data_set(splits).items():
        rows = tuple(
            TableRow(where=f"{source}, {own} row {number}", values=_with_class_names(row, splits[own]))
            for number, row in enumerate(splits[own], start=1)
        )
        tables[split] = Table(name=source, columns=tuple(splits[own].column_names), rows=rows)
    if "train" not in tables:
        raise UserError(f"{source} has no split 'train', only {', '.join(splits)}; use a data set with one.")
    return tables


def _with_class_names(row: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    values = dict(row)
    for column, feature in getattr(rows, "features", {}).items():
        classes = getattr(feature, "names", None)
        if classes and isinstance(values[column], int):
            values[column] = classes[values[column]] if values[column] >= 0 else "-"
    return values
