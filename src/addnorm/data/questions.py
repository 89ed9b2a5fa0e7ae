"""Questions with their contexts, by their name on the command line: cloze, SQuAD files, or hf:NAME."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from addnorm.data import cloze, tables, user_files
from addnorm.data.records import Answer, Question, Splits
from addnorm.errors import UserError
from addnorm.json_file import parsed

NAMED = {"cloze": cloze.cloze_questions}
SUFFIXES = (".json", ".jsonl")


def load(source: str) -> Splits[Question]:
    """The questions that `source` names, in three splits; questions on one context are in one split.

    Args:
        source: "cloze" (which name is missing from a verse); SQuAD files, version 1.1 or 2; JSON lines with id,
            question, context and answers; a folder or a list of them as `user_files.find` takes; or
            "hf:NAME[:CONFIG]".

    Raises:
        UserError: the source is missing, empty or malformed, an answer does not stand where it is said to (with file
            and question), or an extra is needed.
    """
    if source in NAMED:
        return NAMED[source]()
    if source.startswith("hf:"):
        records = {split: [_flat(row) for row in table.rows] for split, table in tables.load(source, []).items()}
    else:
        paths = user_files.find(source, SUFFIXES)
        records = {split: read(Path(path).expanduser()) for split, path in paths.items()}
    return user_files.assemble(source, records, lambda question: question.context)


def read(path: Path) -> list[Question]:
    """The questions in a SQuAD file, or in a file of JSON lines.

    Raises:
        UserError: the file is missing, no such file, or an answer does not stand in its context.
    """
    if path.suffix.lower() == ".jsonl":
        return [_flat(row) for row in tables.read(path, []).rows]
    text = user_files.read_text(path)
    try:
        content = parsed(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno} is not JSON ({error.msg}); use a whole SQuAD file.") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); use a whole SQuAD file.") from None
    return list(_squad(path, content))


def _squad(path: Path, content: Any) -> Iterator[Question]:
    articles = _get(str(path), content, "data", list)
    for place, article in enumerate(articles, start=1):
        for paragraph in _get(f"{path}, article {place}", article, "paragraphs", list):
            where = f"{path}, article {place}"
            context = _get(where, paragraph, "context", str)
            for entry in _get(where, paragraph, "qas", list):
                name = str(_get(where, entry, "id", (str, int)))
                yield _question(f"{path}, question {name}", name, context, entry)


def _question(where: str, name: str, context: str, entry: Mapping[str, Any]) -> Question:
    asked = _get(where, entry, "question", str).strip()
    if not asked or not context.strip():
        raise UserError(
            f"{where} has an empty {'context' if asked else 'question'}; put text there, or remove the question."
        )
    given = [] if entry.get("is_impossible") is True else _get(where, entry, "answers", list)
    spans = [(_get(where, one, "text", str), _get(where, one, "answer_start", int)) for one in given]
    return Question(id=name, question=asked, context=context, answers=_answers(where, context, spans))


def _flat(row: tables.Row) -> Question:
    """A row as `datasets` has them: answers = {"text": [...], "answer_start": [...]}."""
    context = _get(row.where, row.values, "context", str)
    answers = _get(row.where, row.values, "answers", dict)
    name = str(row.values.get("id", row.where))
    where = f"{row.where}, question {name}"
    texts, starts = (list(_get(where, answers, key, (list, tuple))) for key in ("text", "answer_start"))
    if len(texts) != len(starts):
        raise UserError(f"{where} has {len(texts)} answers and {len(starts)} answer_start; there must be one for each.")
    entry = {
        "question": row.values.get("question"),
        "answers": [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)],
    }
    return _question(where, name, context, entry)


def _answers(where: str, context: str, spans: list[tuple[str, int]]) -> tuple[Answer, ...]:
    for text, start in spans:
        if not text.strip() or start < 0 or context[start : start + len(text)] != text:
            found = context[max(0, start) : max(0, start) + len(text)]
            raise UserError(
                f"{where}: the answer '{text}' does not stand at answer_start={start} of its context, '{found}' does; "
                "correct answer_start (characters from 0), or remove the question."
            )
    return tuple(Answer(text=text, start=start) for text, start in dict.fromkeys(spans))


def _get(where: str, holder: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    """A value of a JSON object, of the right kind."""
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        came = "nothing" if value is None else type(value).__name__
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise UserError(
            f"{where}: '{key}' is {came}, not {' or '.join(one.__name__ for one in kinds)}; "
            "use a file in SQuAD's format."
        )
    return value
