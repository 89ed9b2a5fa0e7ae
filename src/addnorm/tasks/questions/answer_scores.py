"""SQuAD's figures for a list of answers, and the threshold below which there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from addnorm.data.texts.records import Question
from addnorm.task import Score
from addnorm.tasks.questions.answer_metrics import Measure

HAS, NO = "with an answer", "without one"


def figures(measure: Measure, questions: Sequence[Question], answers: Sequence[str]) -> dict[str, float]:
    """F1 and EM in percent; where some questions have no answer, also for those with one and for those without.

    Args:
        measure: of one answer.
        questions: with their gold answers.
        answers: one a question; "" says that there is none.
    """
    pairs = zip(questions, answers, strict=True)
    values = np.array([measure(answer, _gold(question)) for question, answer in pairs])
    has = np.array([bool(question.answers) for question in questions])
    found = {"F1": values[:, 1].mean(), "EM": values[:, 0].mean()}
    if has.any() and not has.all():
        found |= {f"F1 {HAS}": values[has, 1].mean(), f"EM {HAS}": values[has, 0].mean()}
    if not has.all():
        found[f"EM {NO}"] = values[~has, 0].mean()
    return {name: 100 * float(value) for name, value in found.items()}


def beside_trivial(own: Mapping[str, float], trivial: Mapping[str, Mapping[str, float]], note: str) -> list[Score]:
    """Each figure beside the best of the trivial answers; the others stand in its note."""
    scores = []
    for name, value in own.items():
        ranked = sorted(((measured[name], answer) for answer, measured in trivial.items()), reverse=True)
        best, answer = ranked[0] if ranked else (None, "")
        notes = [note, *(f"{other}: {figure:.1f}" for figure, other in ranked[1:])]
        beside = {"baseline": best, "baseline_name": answer, "note": "; ".join(notes)}
        scores.append(Score(name=name, value=value, highest=100.0, **beside))
    return scores


def best_threshold(
    measure: Measure, questions: Sequence[Question], answers: Sequence[str], margins: Sequence[float]
) -> float:
    """The threshold on `null score - span score` with the highest F1; between two margins, half way.

    Args:
        measure: of one answer.
        questions: with their gold answers.
        answers: the best span of each.
        margins: by how much there being no answer scores above it.
    """
    order = np.argsort(margins, kind="stable")
    pairs = [(questions[place], answers[place]) for place in order]
    answered = np.array([measure(answer, _gold(question))[1] for question, answer in pairs])
    silent = np.array([float(not question.answers) for question, _ in pairs])
    # totals[k]: the k questions with the lowest margins are answered, the others are not.
    totals = np.concatenate([[0], answered.cumsum()]) + np.concatenate([silent[::-1].cumsum()[::-1], [0]])
    # Questions of one margin are answered together or not at all: no threshold parts them.
    sorted_margins = np.sort(margins)
    parts = np.concatenate([[True], np.diff(sorted_margins) > 0, [True]])
    best = int(np.where(parts, totals, -np.inf).argmax())
    if best in (0, len(order)):
        return float(sorted_margins[0] - 1 if best == 0 else sorted_margins[-1] + 1)
    return float(sorted_margins[best - 1 : best + 1].mean())


def _gold(question: Question) -> list[str]:
    return [answer.text for answer in question.answers]
