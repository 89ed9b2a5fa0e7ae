from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addnorm.data.texts.records import Answer, Question
from addnorm.tasks.questions.answer_baselines import by_word_overlap, most_frequent_name
from addnorm.tasks.questions.answer_metrics import CHINESE, SQUAD, measure_for, squad_normalised
from addnorm.tasks.questions.answer_scores import beside_trivial, best_threshold, figures


def question(context: str, *answers: str, asked: str = "Who?") -> Question:
    gold = tuple(Answer(text=answer, start=context.index(answer)) for answer in answers)
    return Question(id=f"{context}/{asked}", question=asked, context=context, answers=gold)


@pytest.mark.parametrize(
    ("came", "normalised"),
    [
        ("The Beatles", "beatles"),
        ("a  cat, an   ox\tand THE\ndog.", "cat ox and dog"),
        ("theatre", "theatre"),  # no article inside a word
        ("U.S.", "us"),  # punctuation goes, it does not become a space
        ("the-end", "theend"),  # so the article is one no more
        ("“quoted”", "“quoted”"),  # ASCII punctuation alone
        ("A", ""),
    ],
)
def test_answers_are_normalised_as_squad_does(came, normalised):
    assert squad_normalised(came) == normalised


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the Denver Broncos", ["Denver Broncos"], 1, 1),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),  # P 1, R 1/2
        ("gold gold", ["gold"], 0, 2 / 3),  # a word counts as often as in both
        ("Paris", ["Rome", "in Paris"], 0, 2 / 3),  # the best over the gold answers
        ("Paris", ["Rome", "paris!"], 1, 1),
        ("Paris", ["Rome"], 0, 0),
        ("", [], 1, 1),  # rightly no answer
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("", ["the"], 1, 1),  # version 2: a gold answer that normalises to nothing is none
        ("the", ["the"], 1, 1),
        ("cat", ["the", "cat"], 1, 1),
    ],
)
def test_exact_match_and_f1_are_those_of_squad(answer, gold, exact, f1):
    assert SQUAD(answer, gold) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("《红楼梦》", ["红楼梦"], 1, 1),
        ("北京", ["北京大学"], 0, 2 / 3),  # 2 of 2, 2 of 4
        ("大学北京", ["北京大学"], 0, 1 / 2),  # the longest common run, not the bag
        ("1998年", ["1998年5月"], 0, 2 / 3),  # a number is one item: 2 of 2, 2 of 4
        ("3.5米", ["3.5公里"], 0, 0.4),  # 3.5 is one item: 1 of 2, 1 of 3
        ("上海", ["北京", "上海市"], 0, 0.8),
        ("NBA 球员", ["nba球员"], 0, 1),  # exact match keeps the space, F1 does not see it
    ],
)
def test_chinese_answers_are_measured_by_characters(answer, gold, exact, f1):
    assert CHINESE(answer, gold) == (exact, pytest.approx(f1))


def test_the_measure_follows_the_language_of_the_contexts():
    assert measure_for(["小明住在北京，他喜欢 NBA。"]) is CHINESE
    assert measure_for(["Beijing (北京) is a city."]) is SQUAD


def test_questions_with_and_without_an_answer_are_also_shown_apart():
    asked = [question("Tom ran.", "Tom"), question("Ann sat.", "Ann"), question("It rained."), question("No.")]
    found = figures(SQUAD, asked, ["Tom", "", "", "Ann"])
    assert found == {"F1": 50, "EM": 50, "F1 with an answer": 50, "EM with an answer": 50, "EM without one": 50}
    assert set(figures(SQUAD, asked[:2], ["Tom", ""])) == {"F1", "EM"}


def test_a_figure_stands_beside_the_best_trivial_one():
    score = beside_trivial({"F1": 60.0}, {"a": {"F1": 10.0}, "b": {"F1": 37.0}}, "rule")[0]
    assert (score.baseline, score.baseline_name, score.note) == (37.0, "b", "rule; a: 10.0")


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-4, 4)), min_size=1, max_size=12))
def test_no_other_threshold_is_better_than_the_best(items):
    asked = [
        Question(id=str(n), question="?", context="yes", answers=(Answer(text="yes", start=0),) if has else ())
        for n, (has, _, _) in enumerate(items)
    ]
    texts = ["yes" if right else "wrong" for _, right, _ in items]
    margins = [float(margin) for _, _, margin in items]  # ties among them: no threshold parts those

    def f1(threshold: float) -> float:
        pairs = zip(texts, margins, strict=True)
        return figures(SQUAD, asked, ["" if margin > threshold else text for text, margin in pairs])["F1"]

    # Margins are whole numbers, so that every way to part them is among the halves. Sums of the same items in another
    # order: a difference of rounding, far below that of one item (100 / 12).
    assert f1(best_threshold(SQUAD, asked, texts, margins)) >= max(map(f1, np.arange(-6, 6, 0.5))) - 1e-6


def test_the_most_frequent_name_is_answered_and_of_two_the_later():
    assert most_frequent_name(question("David saw Saul. David fled, and David hid.")) == "David"
    assert most_frequent_name(question("David saw Saul.")) == "Saul"
    assert most_frequent_name(question("nobody here")) == ""


def test_the_words_nearest_to_the_questions_words_are_answered():
    context = "The tower was built by Gustave Eiffel in Paris. Many people like cheese."
    assert by_word_overlap(question(context, asked="By whom was the tower built?")) == "Gustave Eiffel"
    assert by_word_overlap(question("the of", asked="the of")) == ""
