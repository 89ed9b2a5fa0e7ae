"""Questions with their contexts, by their name on the command line: cloze, SQuAD files, or hf:NAME."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from addnorm.data.sets import cloze
from addnorm.data.sources import tables, text_file, user_files
from addnorm.data.sources.bad_records import BadRecord, BadRecords, RecordWarning
from addnorm.data.texts.records import Answer, Question, Splits
from addnorm.errors import UserError
from addnorm.json_file import parsed

NAMED = {"cloze": cloze.cloze_questions}
SUFFIXES = (".json", ".jsonl")
NAMED_MENDS = 3
"""Mended questions that a warning names."""


def load(source: str, *, skip_bad: bool = False, drop_repeats: bool = False) -> Splits[Question]:
    """The questions that `source` names, in three splits; questions on one context are in one split.

    Args:
        source: "cloze" (which name is missing from a verse); SQuAD files, version 1.1 or 2; JSON lines with id,
            question, context and answers; a folder or a list of them as `user_files.find` takes; or
            "hf:NAME[:CONFIG]".
        skip_bad: leave questions out that cannot be read.
        drop_repeats: leave out of training what is held out too.

    An answer that does not stand where it is said to, but exactly once in its context, is taken from there; such
    questions are counted in the notes and in a warning.

    Raises:
        UserError: the source is missing, empty or malformed, an answer does not stand in its context (with file and
            question), or an extra is needed.
    """
    if source in NAMED:
        return NAMED[source]()
    reading = _Reading(BadRecords(skip=skip_bad))
    if source.startswith("hf:"):
        records = {split: reading.rows(table) for split, table in tables.load(source, []).items()}
    else:
        paths = user_files.find(source, SUFFIXES)
        records = {split: reading.file(name) for split, name in paths.items()}
    notes = reading.mended(source)
    return user_files.assemble(source, records, lambda question: question.context, notes, reading.faults, drop_repeats)


def read(file: Path | str) -> list[Question]:
    """The questions in a SQuAD file, or in a file of JSON lines.

    Raises:
        UserError: the file is missing, no such file, or an answer does not stand in its context.
    """
    return _Reading(BadRecords(skip=False)).file(file)


class _Reading:
    """Reads questions; counts those whose answer_start it mended.

    Args:
        faults: takes in questions that cannot be read.
    """

    def __init__(self, faults: BadRecords) -> None:
        self.faults, self.moved = faults, list[str]()

    def file(self, file: Path | str) -> list[Question]:
        """The questions in a file, which may have its encoding behind it."""
        path, encoding = text_file.place(file)
        if path.suffix.lower() == ".jsonl":
            return self.rows(tables.read(file, [], self.faults))
        text = text_file.read_text(path, encoding)
        try:
            content = parsed(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno} is not JSON ({error.msg}); use a whole SQuAD file.") from None
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}); use a whole SQuAD file.") from None
        return list(self._squad(path, content))

    def rows(self, table: tables.Table) -> list[Question]:
        """The questions in a table's rows."""
        return table.records(self._flat, self.faults)

    def mended(self, source: str) -> list[str]:
        """What was mended, as a note of the data; also a warning."""
        if not self.moved:
            return []
        named = "; ".join(self.moved[:NAMED_MENDS]) + ("; ..." if len(self.moved) > NAMED_MENDS else "")
        note = f"mended answer_start of {len(self.moved)} answers of {source} that stand once in their context: {named}"
        warnings.warn(f"{note}.", RecordWarning, stacklevel=4)
        return [note]

    def _squad(self, path: Path, content: Any) -> Iterator[Question]:
        articles = _get(str(path), content, "data", list)
        for place, article in enumerate(articles, start=1):
            for paragraph in _get(f"{path}, article {place}", article, "paragraphs", list):
                where = f"{path}, article {place}"
                context = _get(where, paragraph, "context", str)
                for entry in _get(where, paragraph, "qas", list):
                    name = self.faults.take(_get, where, entry, "id", (str, int))
                    if name is not None:
                        found = self.faults.take(self._question, f"{path}, question {name}", str(name), context, entry)
                        yield from [found] if found else []

    def _question(self, where: str, name: str, context: str, entry: Mapping[str, Any]) -> Question:
        asked = _get(where, entry, "question", str).strip()
        if not asked or not context.strip():
            raise BadRecord(
                f"{where} has an empty {'context' if asked else 'question'}; put text there, or remove the question."
            )
        given = [] if entry.get("is_impossible") is True else _get(where, entry, "answers", list)
        spans = [(_get(where, one, "text", str), _get(where, one, "answer_start", int)) for one in given]
        placed = [(text, _start(where, context, text, start)) for text, start in spans]
        self.moved += [
            f"{where} from {start} to {right}"
            for (_, start), (_, right) in zip(spans, placed, strict=True)
            if start != right
        ]
        answers = tuple(Answer(text=text, start=start) for text, start in dict.fromkeys(placed))
        return Question(id=name, question=asked, context=context, answers=answers)

    def _flat(self, row: tables.TableRow) -> Question:
        """A row as `datasets` has them: answers = {"text": [...], "answer_start": [...]}."""
        context = _get(row.where, row.values, "context", str)
        answers = _get(row.where, row.values, "answers", dict)
        name = str(row.values.get("id", row.where))
        where = f"{row.where}, question {name}"
        texts, starts = (list(_get(where, answers, key, (list, tuple))) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise BadRecord(
                f"{where} has {len(texts)} answers and {len(starts)} answer_start; there must be one for each."
            )
        entry = {
            "question": row.values.get("question"),
            "answers": [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)],
        }
        return self._question(where, name, context, entry)


def _start(where: str, context: str, text: str, start: int) -> int:
    """Where an answer stands: where it is said to, or at the only other place that it can be."""
    if text.strip() and start >= 0 and context[start : start + len(text)] == text:
        return start
    if text.strip() and (first := context.find(text)) >= 0 and context.find(text, first + 1) < 0:
        return first
    found = context[max(0, start) : max(0, start) + len(text)]
    raise BadRecord(
        f"{where}: the answer '{text}' does not stand at answer_start={start} of its context, '{found}' does; "
        "correct answer_start (characters from 0), or remove the question."
    )


def _get(where: str, holder: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    """A value of a JSON object, of the right kind."""
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        came = "nothing" if value is None else type(value).__name__
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise BadRecord(
            f"{where}: '{key}' is {came}, not {' or '.join(one.__name__ for one in kinds)}; "
            "use a file in SQuAD's format."
        )
    return value
