"""Rows with named columns, from TSV, CSV and JSON-lines files and from `datasets`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm.data import huggingface, split_names, user_files
from addnorm.errors import UserError, unknown
from addnorm.json_file import parsed

SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Values by column, and where they stand: the file and its line, or the split and its row."""

    where: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A value that is text and not blank.

        Raises:
            UserError: it is blank or something else.
        """
        value = self.values[column]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise UserError(f"{self.where}: '{column}' is {type(value).__name__}, not text; put text there.")
        if not str(value).strip():
            raise UserError(f"{self.where}: '{column}' is empty; put text there, or remove the line.")
        return str(value).strip()

    def number(self, column: str) -> float:
        """A value that is a finite number.

        Raises:
            UserError: it is none.
        """
        try:
            number = float(self.values[column])
        except (TypeError, ValueError):
            number = float("nan")
        if not abs(number) < float("inf"):
            raise UserError(f"{self.where}: '{column}' is '{self.values[column]}', not a number; put a number there.")
        return number


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one file or split; without a header, columns are called by their numbers from 1."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

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


def load(source: str, wanted: Sequence[str]) -> dict[str, Table]:
    """The table of each split of a source; `wanted` as in `read`."""
    if source.startswith("hf:"):
        return _from_hub(source)
    return {split: read(Path(path).expanduser(), wanted) for split, path in user_files.find(source, SUFFIXES).items()}


def read(path: Path, wanted: Sequence[str]) -> Table:
    """A table in a file: JSON lines by its ending, CSV with quotes by its ending, else tabs without quotes.

    Args:
        path: the file.
        wanted: the columns that were asked for; if all are numbers, the file has no header.

    Raises:
        UserError: the file is missing, empty, not UTF-8, or a line is malformed.
    """
    if path.suffix.lower() in (".jsonl", ".json"):
        return _read_json_lines(path)
    lines = list(_fields(path))
    number, header = lines[0]
    if wanted and all(name.isdigit() for name in wanted):
        columns = tuple(str(place) for place in range(1, len(header) + 1))
    else:
        columns = tuple(name.strip() for name in header)
        lines = lines[1:]
        if len(set(columns)) < len(columns):
            raise UserError(f"{path}, line {number}: the header names a column twice; rename one.")
    rows = tuple(_row(path, number, columns, fields) for number, fields in lines)
    return Table(name=str(path), columns=columns, rows=rows)


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank; a quoted CSV field may go over lines."""
    lines = user_files.read_lines(path)
    if path.suffix.lower() != ".csv":
        yield from ((number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip())
        return
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    start = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {start}: {error}; quote a field that has a comma or a quote in it.") from None


def _row(path: Path, number: int, columns: tuple[str, ...], fields: list[str]) -> Row:
    if len(fields) < len(columns):
        raise UserError(
            f"{path}, line {number} has {len(fields)} columns, the first line has {len(columns)}; "
            f"separate them by {'commas' if path.suffix.lower() == '.csv' else 'tabs'}, and add what is missing."
        )
    return Row(where=f"{path}, line {number}", values=dict(zip(columns, fields, strict=False)))


def _read_json_lines(path: Path) -> Table:
    rows, columns = [], {}
    for number, line in enumerate(user_files.read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = parsed(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({error}); write one object a line.") from None
        if not isinstance(values, dict):
            raise UserError(f"{where} is a JSON {type(values).__name__}; write one object {{...}} a line.")
        columns.update(dict.fromkeys(values))
        rows.append(Row(where=where, values=values))
    for row in rows:
        missing = next((column for column in rows[0].values if column not in row.values), None)
        if missing is not None:
            raise UserError(f"{row.where} has no '{missing}', which {rows[0].where} has; add it.")
    return Table(name=str(path), columns=tuple(columns), rows=tuple(rows))


def _from_hub(source: str) -> dict[str, Table]:
    """The splits of a data set; numbers that stand for classes become the classes' names."""
    name, config, _ = huggingface.parse(source)
    splits = huggingface.load_dataset(source, name, config)
    tables = {}
    for split, own in split_names.of_data_set(splits).items():
        rows = tuple(
            Row(where=f"{source}, {own} row {number}", values=_with_class_names(row, splits[own]))
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
