from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from addnorm import tasks
from addnorm.data.texts.records import Question
from addnorm.data.tokens.tokenizer import ByteTokenizer
from addnorm.errors import UserError
from addnorm.layers.cross_entropy import cross_entropy
from addnorm.tasks.question_answering import span_loss
from addnorm.tasks.questions.question_reader import Answering, QuestionReader, best_spans
from addnorm.training.evaluation import evaluate_run
from addnorm.training.load import load_run
from addnorm.training.optimizer import Optimizer
from addnorm.training.run import train

SHAPE = {"d_model": 32, "num_heads": 4, "num_layers": 2, "init": "xavier", "tokenizer": "byte", "context": 64}
QUICK = {"batch_size": 16, "learning_rate": 5e-3, "evaluations": 2, "signals": 1, "score_items": 20}
SCHEMES = ["post-norm", "deep-norm", "mhc", "attention-residuals", "admin(growth=profile)", "by-layer(first=post-norm)"]


def squad_file(path: Path, contexts: int, *, share_without: float = 0.0) -> Path:
    """Which number stands in a row of words? Some rows have none."""
    draw, paragraphs = random.Random(0), []
    for number in range(contexts):
        words = draw.choices(["red", "dog", "sun", "tree", "is"], k=6)
        answers = []
        if number >= share_without * contexts:
            answer, place = str(draw.randrange(10, 100)), draw.randrange(6)
            words[place] = answer
            answers = [{"text": answer, "answer_start": len("".join(f"{word} " for word in words[:place]))}]
        entry = {"id": f"n{number}", "question": "number?", "answers": answers, "is_impossible": not answers}
        paragraphs.append({"context": " ".join(words), "qas": [entry]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "numbers", "paragraphs": paragraphs}]}))
    return path


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return squad_file(tmp_path_factory.mktemp("squad") / "numbers.json", 600)


@pytest.fixture(scope="module")
def some_without(tmp_path_factory):
    return squad_file(tmp_path_factory.mktemp("squad") / "some.json", 600, share_without=0.4)


def problem_of(path: Path, task: str = "question-answering", **changes):
    return tasks.prepare(tasks.config(task, data=str(path), **(SHAPE | QUICK | {"steps": 60} | changes)))


def threshold_of(run: Path) -> float:
    reader = load_run(run).reader
    assert isinstance(reader, QuestionReader)
    return reader.answering.threshold


def longest_of(path: Path, task: str = "question-answering") -> int:
    reader = problem_of(path, task).reader
    assert isinstance(reader, QuestionReader)
    return reader.answering.longest


class Marked(nn.Module):
    """An answer is a capital letter of the context, the later in the alphabet the better."""

    def forward(self, tokens: Tensor, keep: Tensor, segments: Tensor) -> Tensor:
        capital = (tokens >= ord("A")) & (tokens <= ord("Z"))
        return torch.where(capital, tokens - 60.0, torch.zeros(()))[..., None].expand(-1, -1, 2)


def test_the_loss_of_a_single_place_is_cross_entropy():
    logits, target = torch.randn(5, 7, 2, dtype=torch.float64), torch.randint(0, 7, (5, 2))
    gold = torch.zeros(5, 7, 2).scatter_(1, target[:, None, :], 1.0)
    for smoothing in (0.0, 0.1):
        expected = cross_entropy(logits.float().transpose(1, 2), target, smoothing)
        # float64 against the float32 that cross_entropy sums in
        torch.testing.assert_close(span_loss(logits, gold, smoothing).float(), expected, rtol=1e-5, atol=1e-5)


def test_where_an_answer_stands_twice_the_probabilities_add_up():
    logits = torch.tensor([[0.0, 1.0, 2.0]])[..., None].expand(1, 3, 2)
    gold = torch.tensor([[0, 1, 1]])[..., None].expand(1, 3, 2)
    p = logits[0, :, 0].softmax(0)
    assert span_loss(logits, gold).item() == pytest.approx(-(p[1] + p[2]).log().item(), rel=1e-5)  # float32


def test_places_where_no_answer_can_be_have_no_part_in_smoothing():
    logits, gold = torch.randn(2, 4, 2), torch.zeros(2, 4, 2)
    gold[:, 1] = 1
    wide = torch.cat([logits, torch.full((2, 3, 2), float("-inf"))], dim=1)
    wide_gold = torch.cat([gold, torch.zeros(2, 3, 2)], dim=1)
    torch.testing.assert_close(span_loss(wide, wide_gold, 0.2), span_loss(logits, gold, 0.2))


def test_the_best_span_is_the_best_of_all_allowed_spans():
    torch.manual_seed(0)
    logits, longest = torch.randn(20, 9, 2), 3
    for row, (first, last, score, log_p, null) in zip(logits, best_spans(logits, longest), strict=True):
        spans = [(i, j) for i in range(1, 9) for j in range(i, min(9, i + longest))]
        best = max(spans, key=lambda span: float(row[span[0], 0] + row[span[1], 1]))
        assert (first, last) == best
        assert score == pytest.approx(float(row[first, 0] + row[last, 1]))
        p = row[:, 0].softmax(0)[first] * row[:, 1].softmax(0)[last]
        assert log_p == pytest.approx(float(p.log()), rel=1e-4)  # float32
        assert null == pytest.approx(float(row[0].sum()))


def test_the_best_span_is_found_in_whichever_window_it_stands():
    reader = QuestionReader(ByteTokenizer(), Answering(no_answer=False, longest=5), stride=20)
    context = "a" * 70 + "C" + "a" * 70 + "Z" + "a" * 70 + "B" + "a" * 30
    asked = [
        Question(id=str(n), question="which?", context=text, answers=()) for n, text in enumerate([context, "xYx"])
    ]
    long, short = reader.spans(Marked(), asked, 64)
    assert (long.text, long.start) == ("Z", 141)
    assert (short.text, short.start) == ("Y", 1)
    assert long.null == 0


def test_batches_are_a_function_of_seed_and_step(numbers):
    one, again, other = problem_of(numbers), problem_of(numbers), problem_of(numbers, seed=1)
    again.train_batch(0)
    for mine, same in zip(one.train_batch(31), again.train_batch(31), strict=True):
        assert torch.equal(mine, same)
    assert one.train_batch(31)[0].shape != other.train_batch(31)[0].shape or not torch.equal(
        one.train_batch(31)[0], other.train_batch(31)[0]
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_scheme_learns(numbers, scheme):
    problem = problem_of(numbers, scheme=scheme)
    model = problem.build()
    problem.calibrate_(model)
    optimizer, before = Optimizer(model, problem.config), problem.evaluate(model)
    for step in range(20):
        problem.loss(model, problem.train_batch(step)).backward()
        optimizer.step(3e-3)
        optimizer.clear_gradient()
        model.after_step_()  # pyrefly: ignore
    assert problem.evaluate(model) < before - 0.3


@pytest.mark.slow
def test_a_trained_model_answers_well_beyond_word_overlap_and_says_when_there_is_no_answer(some_without, tmp_path):
    changes = SHAPE | QUICK | {"steps": 250}
    train(tasks.config("question-answering", data=str(some_without), **changes), tmp_path / "run")
    result = evaluate_run(tmp_path / "run")
    scores = {score["name"]: score for score in result["scores"]}
    assert scores["F1"]["value"] > 90 > 60 > scores["F1"]["baseline"]
    assert scores["EM without one"]["baseline_name"] == "never an answer"
    answers = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert len(answers) == 30 and "" in answers.values()  # 5 % of 600 contexts
    loaded = load_run(tmp_path / "run")
    found = loaded.reader.predict(loaded.model, "number?", loaded.config, "red sun is 57 is dog")
    assert found.values["answer"] == "57" and (found.values["start"], found.values["end"]) == (11, 13)
    nothing = loaded.reader.predict(loaded.model, "number?", loaded.config, "red sun is tree is dog")
    assert nothing.values["answer"] is None and nothing.text.startswith("no answer")


def test_evaluation_leaves_the_threshold_that_it_chose_for_predictions(some_without, tmp_path):
    train(
        tasks.config("question-answering", data=str(some_without), **(SHAPE | QUICK | {"steps": 3})), tmp_path / "run"
    )
    assert threshold_of(tmp_path / "run") == 0
    notes = [score["note"] for score in evaluate_run(tmp_path / "run")["scores"]]
    chosen = threshold_of(tmp_path / "run")
    assert chosen != 0 and f"threshold {chosen:.2f}, chosen on validation" in notes[0]


def test_no_answer_is_longer_than_the_longest_one_trained_on(numbers):
    assert longest_of(numbers) == 2  # the two digits of a number, as bytes
    assert longest_of(numbers, "question-answering(longest=1)") == 1


def test_a_given_threshold_is_kept(some_without):
    problem = problem_of(some_without, "question-answering(threshold=1000)")
    scores = problem.scores(problem.build(), limit=20, baselines=False)
    assert {score.name: score.value for score in scores}["EM without one"] == 0  # nothing is that much better
    assert "threshold 1000" in scores[0].note


def test_who_may_not_be_silent_always_answers(some_without):
    problem = problem_of(some_without, "question-answering(no_answer=no)")
    scores = {score.name: score.value for score in problem.scores(problem.build(), limit=20, baselines=False)}
    assert scores["EM without one"] == 0


def test_a_resumed_run_takes_the_same_steps(numbers, tmp_path):
    config = tasks.config("question-answering", data=str(numbers), **(SHAPE | QUICK | {"steps": 9, "saves": 3}))
    whole, stopped = train(config, tmp_path / "whole"), tmp_path / "stopped"
    train(config, stopped)
    (stopped / "result.json").unlink()
    for late in sorted((stopped / "checkpoints").glob("step-*"))[1:]:
        for file in late.iterdir():
            file.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="damaged"):
        again = train(config, stopped, resume=True)
    assert again["validation_loss"] == whole["validation_loss"]


def test_an_answer_that_is_not_in_its_context_is_refused_by_its_question(tmp_path):
    entry = {"id": "q7", "question": "Who?", "answers": [{"text": "Tom", "answer_start": 3}]}
    content = {"data": [{"paragraphs": [{"context": "Tom ran. Tom sat.", "qas": [entry]}]}]}
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="question q7: the answer 'Tom' does not stand at answer_start=3"):
        problem_of(tmp_path / "bad.json")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(UserError, match="is empty"):
        problem_of(tmp_path / "empty.json")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("stride=0", "stride=0 is not allowed"),
        ("longest=0", "longest=0 is not allowed"),
        ("no_answer=maybe", "no_answer 'maybe'"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(field, message):
    with pytest.raises(UserError, match=message):
        tasks.parse(f"question-answering({field})")


def test_a_question_without_its_context_is_refused(numbers):
    problem = problem_of(numbers)
    with pytest.raises(UserError, match="a question needs a context"):
        problem.reader.predict(problem.build(), "number?", problem.config)
    with pytest.raises(UserError, match="the context is empty"):
        problem.reader.predict(problem.build(), "number?", problem.config, " ")


def test_fresh_weights_are_never_frozen_and_no_more_layers_than_there_are(numbers):
    fresh = problem_of(numbers, "question-answering(frozen=1)").build()
    assert all(parameter.requires_grad for parameter in fresh.parameters())
    with pytest.raises(UserError, match="frozen=3, but num_layers=2"):
        problem_of(numbers, "question-answering(frozen=3)").build()
