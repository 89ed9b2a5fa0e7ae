from __future__ import annotations

import json

import pytest

from addnorm.data.sources.bad_records import RecordWarning
from addnorm.data.texts import questions
from addnorm.data.texts.records import Answer
from addnorm.errors import UserError

CONTEXT = "Ruth gleaned in the field of Boaz, and Boaz came from Bethlehem."


def entry(name="q1", text="Boaz", start=29, **more):
    return {"id": name, "question": "Whose field? ", "answers": [{"text": text, "answer_start": start}]} | more


def squad(*paragraphs) -> dict:
    made = [{"context": context, "qas": list(entries)} for context, entries in paragraphs]
    return {"version": "v2.0", "data": [{"title": "Ruth", "paragraphs": made}]}


def write(folder, content, name="dev-v2.0.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_version_1_and_version_2_are_read(tmp_path):
    impossible = entry("q2", is_impossible=True, answers=[], plausible_answers=[{"text": "Ruth", "answer_start": 0}])
    twice = entry(
        "q3", answers=[{"text": "Boaz", "answer_start": 29}] * 2 + [{"text": "field of Boaz", "answer_start": 20}]
    )
    path = write(tmp_path, squad((CONTEXT, [entry(), impossible, twice])))
    one, none, two = questions.read(path)
    assert (one.id, one.question, one.context, one.answers) == (
        "q1",
        "Whose field?",
        CONTEXT,
        (Answer(text="Boaz", start=29),),
    )
    assert none.answers == ()
    assert [answer.text for answer in two.answers] == ["Boaz", "field of Boaz"]


def test_questions_on_one_context_are_held_out_together(tmp_path):
    paragraphs = [(f"{CONTEXT} {n}", [entry(f"{n}a"), entry(f"{n}b")]) for n in range(30)]
    splits = questions.load(str(write(tmp_path, squad(*paragraphs))))
    contexts = [{question.context for question in part} for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in contexts] == [26, 2, 2]
    assert not contexts[0] & contexts[1] and not contexts[0] & contexts[2] and not contexts[1] & contexts[2]


def test_squads_own_files_are_found_in_a_folder(tmp_path):
    paragraphs = [(f"{CONTEXT} {n}", [entry(str(n))]) for n in range(30)]
    write(tmp_path, squad(*paragraphs), "train-v1.1.json")
    write(tmp_path, squad(*paragraphs[:4]), "dev-v1.1.json")
    splits = questions.load(str(tmp_path))
    assert len(splits.validation) == 4 and len(splits.test) == 2 and len(splits.train) == 28


def test_json_lines_in_the_form_of_datasets_are_read(tmp_path):
    row = {"id": "7", "question": "Whose?", "context": CONTEXT, "answers": {"text": ["Boaz"], "answer_start": [29]}}
    path = write(tmp_path, json.dumps(row) + "\n", "x.jsonl")
    assert questions.read(path)[0].answers == (Answer(text="Boaz", start=29),)
    row["answers"]["answer_start"] = []
    with pytest.raises(UserError, match="question 7 has 1 answers and 0 answer_start"):
        questions.read(write(tmp_path, json.dumps(row) + "\n", "x.jsonl"))


@pytest.mark.parametrize("text, start", [("Boaz", 28), ("Boaz", -4), ("Naomi", 0), ("Boaz", 5000), (" ", 4)])
def test_an_answer_that_is_not_where_it_is_said_to_be_is_named_by_its_question(tmp_path, text, start):
    path = write(tmp_path, squad((CONTEXT, [entry("q1"), entry("56be4db0", text, start)])))
    with pytest.raises(
        UserError, match=f"question 56be4db0: the answer '{text}' does not stand at answer_start={start}"
    ):
        questions.read(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is empty"),
        ('{"data": [\n}', "line 2 is not JSON"),
        ("[]", "'data' is nothing, not list; use a file in SQuAD's format"),
        ({"data": [{"title": "x"}]}, "article 1: 'paragraphs' is nothing, not list"),
        ({"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}, "article 1: 'context' is int, not str"),
        (squad((CONTEXT, [{"question": "x"}])), "article 1: 'id' is nothing, not str or int"),
        (squad((CONTEXT, [{"id": "q9", "question": "x"}])), "question q9: 'answers' is nothing, not list"),
        (squad((CONTEXT, [entry("q9", start="29")])), "question q9: 'answer_start' is str, not int"),
        (squad((CONTEXT, [entry("q9", question=" ")])), "question q9 has an empty question"),
        (squad((" ", [entry("q9")])), "question q9 has an empty context"),
        (squad((CONTEXT, [entry("q9")])), "too few to hold 10% out"),
        (squad(), "has no record for train"),
    ],
)
def test_a_file_that_is_not_squads_is_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        questions.load(str(path))
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_the_cloze_questions_are_reached_by_name():
    assert questions.load("cloze").origin == "cloze"


@pytest.mark.parametrize("start", [-1, 23, 19, 5000])
def test_an_answer_that_stands_once_is_taken_from_there_and_counted(tmp_path, start):
    paragraphs = [(f"{CONTEXT} {n}", [entry(f"{n}", "gleaned", start if n < 4 else 5)]) for n in range(30)]
    path = write(tmp_path, squad(*paragraphs))
    with pytest.warns(RecordWarning, match="mended answer_start of 4 answers .*question 0 from .* to 5; .*; \\.\\.\\."):
        splits = questions.load(str(path))
    assert {question.answers for question in splits.train} == {(Answer(text="gleaned", start=5),)}
    assert splits.notes[0].startswith("mended answer_start of 4")


def test_questions_that_cannot_be_read_are_left_out(tmp_path):
    paragraphs = [(f"{CONTEXT} {n}", [entry(f"{n}", start=28 if n == 7 else 29)]) for n in range(30)]
    path = write(tmp_path, squad(*paragraphs))
    with pytest.raises(UserError, match="question 7: the answer 'Boaz' does not stand at answer_start=28"):
        questions.load(str(path))
    with pytest.warns(RecordWarning, match="left out 1 of the 30 records .*question 7: the answer 'Boaz'"):
        splits = questions.load(str(path), skip_bad=True)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 29


def test_a_file_that_is_nested_too_deeply_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is not JSON .brackets are nested"):
        questions.read(write(tmp_path, "[" * 100_000))
