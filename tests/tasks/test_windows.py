from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addnorm.data.texts.records import Answer, Question
from addnorm.data.tokens.pretrained_tokenizer import PretrainedTokenizer
from addnorm.data.tokens.tokenizer import ByteTokenizer, build
from addnorm.errors import UserError
from addnorm.tasks.questions.context_windows import Framing, answerable, windows
from addnorm.tasks.text.encoder_texts import TextFrame

LONG = " ".join(f"w{number}" for number in range(60))


def framing(limit: int = 64, stride: int = 10) -> Framing:
    return Framing(frame=TextFrame(tokenizer=ByteTokenizer()), limit=limit, stride=stride)


def question(context: str, *starts_and_texts: tuple[int, str], asked: str = "who?") -> Question:
    answers = tuple(Answer(text=text, start=start) for start, text in starts_and_texts)
    return Question(id="q", question=asked, context=context, answers=answers)


@given(length=st.integers(1, 300), stride=st.integers(1, 200), limit=st.integers(32, 90), asked=st.integers(1, 80))
def test_windows_leave_no_token_of_the_context_out(length, stride, limit, asked):
    context = "x" * length
    rows = list(framing(limit, stride).rows("q" * asked, context))
    covered = {int(start) for row in rows for start, stop in row.offsets[row.segments == 1] if stop}
    assert covered == set(range(length))
    assert all(len(row.ids) <= limit for row in rows)


@given(start=st.integers(0, len(LONG) - 8), length=st.integers(1, 8), stride=st.integers(1, 30))
def test_an_answer_is_found_where_it_stands_in_every_window_that_holds_it(start, length, stride):
    text = LONG[start : start + length]
    if not text.strip():
        return
    cut = windows(framing(stride=stride), (question(LONG, (start, text)),))
    held = 0
    for row, (starts, ends) in enumerate(zip(cut.starts, cut.ends, strict=True)):
        if starts == (0,):
            continue
        held += 1
        assert LONG[cut.offsets[row][starts[0]][0] : cut.offsets[row][ends[0]][1]] == text.strip()
    assert held >= 1  # windows overlap by 64 - 3 - 4 - 30 = 27 tokens or more
    assert cut.lost == 0


def test_all_places_of_an_answer_count():
    cut = windows(framing(), (question("Tom saw Tom.", (0, "Tom"), (8, "Tom")),))
    assert len(cut.starts[0]) == len(cut.ends[0]) == 2
    gold = cut.batch([0])[2]
    assert gold.sum(1).tolist() == [[2, 2]]


def test_a_window_without_a_whole_answer_points_at_cls():
    cut = windows(framing(stride=57), (question("y" * 55 + "abcd" + "y" * 55, (55, "abcd")),))  # 57 tokens of room
    assert cut.starts == ((0,), (0,))
    assert cut.lost == 1


def test_a_question_without_an_answer_is_not_lost():
    cut = windows(framing(), (question("Tom ran."),))
    assert (cut.starts, cut.lost) == (((0,),), 0)


def test_only_the_context_and_cls_can_be_answers():
    cut = windows(framing(), (question("abc"), question("abcdefgh")))
    ids, segments, _ = cut.batch([0, 1])
    allowed = answerable(ids, segments, framing().frame)
    assert allowed.sum(1).tolist() == [1 + 3, 1 + 8]
    assert allowed[:, 0].all()


def test_a_space_that_belongs_to_a_token_is_no_part_of_the_answers_place():
    frame = TextFrame(tokenizer=build("bpe:300", ["Tom saw Ann. " * 50]))
    cut = windows(Framing(frame=frame, limit=64, stride=16), (question("Tom saw Ann.", (8, "Ann")),))
    places = cut.offsets[0][cut.starts[0][0]], cut.offsets[0][cut.ends[0][0]]
    assert "Tom saw Ann."[places[0][0] : places[1][1]].strip() == "Ann"


def test_a_blank_is_one_mask_token_for_a_tokenizer_that_has_one():
    tokenizer = PretrainedTokenizer.of("minilm")
    row = next(
        Framing(frame=TextFrame(tokenizer=tokenizer), limit=64, stride=16).rows(
            "And _____ said to _____.", "Tom saw Ann _____."
        )
    )
    assert (row.ids == tokenizer.mask_id).sum() == 2
    assert np.count_nonzero(row.segments) > 5  # the context's own underscores stay what they are


def test_a_row_without_room_is_refused():
    with pytest.raises(UserError, match="context=20 is too short"):
        list(framing(limit=20).rows("who?", "Tom"))


@pytest.mark.parametrize("answer", ["[PAD]", "[SEP]", "[CLS]", "[MASK]"])
def test_an_answer_may_be_the_words_of_a_special_token(answer):
    frame = TextFrame(tokenizer=PretrainedTokenizer.of("minilm"))
    context = f"Rows end with {answer} often."
    cut = windows(Framing(frame=frame, limit=64, stride=16), (question(context, (14, answer)),))
    assert cut.lost == 0
    ids, segments, gold = cut.batch([0])
    assert (answerable(ids, segments, frame)[..., None] | (gold == 0)).all()  # each target can be an answer


def test_a_blank_in_a_question_is_the_mask_token():
    tokens = PretrainedTokenizer.of("minilm")
    asked = Framing(frame=TextFrame(tokenizer=tokens), limit=64, stride=16)._question("___ went to ____.")
    words = [tokens.encode(text).tolist() for text in ("went to", ".")]
    assert asked.ids.tolist() == [tokens.mask_id, *words[0], tokens.mask_id, *words[1]]
