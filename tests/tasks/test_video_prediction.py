"""Video prediction: what it learns, and what it is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from addnorm import tasks
from addnorm.errors import UserError
from addnorm.tasks.video.video_reader import bytes_of, numbers
from addnorm.tasks.video_prediction import VideoPredictionProblem
from tasks.moving_dot import SIDE, TASK, dot_video, problem_of, write_frames, write_videos


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("dots"))


def learned(problem: VideoPredictionProblem, steps: int):
    model = problem.build()
    problem.calibrate_(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, (step + 1) / 20, 2 * (1 - step / steps))
        optimizer.zero_grad()
        problem.loss(model, problem.train_batch(step)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def trained(dots):
    """On true frames, 300 steps."""
    problem = problem_of(dots, task=TASK.replace("given=3", "training=next-frame, given=3"), num_layers=1)
    return problem, learned(problem, 300)


@pytest.mark.slow
def test_a_moving_dot_is_learnt_well_beyond_copying_the_last_frame(trained):
    problem, model = trained
    error, decibels, likeness, ahead, *_ = problem.scores(model)
    assert error.baseline is not None and error.baseline > 0.05
    assert error.value < 0.25 * error.baseline
    assert decibels.baseline is not None and decibels.value > decibels.baseline + 6
    assert likeness.baseline is not None and likeness.value > likeness.baseline + 0.1
    assert ahead.baseline is not None and ahead.value < 0.6 * ahead.baseline
    assert problem.evaluate(model) < 0.3 * problem.chance_loss


def test_frames_by_frame_get_worse_with_distance(trained):
    problem, model = trained
    errors = [near.mse for near in problem.by_frame(model)]
    assert len(errors) == 3 and errors[0] < errors[-1]


@pytest.mark.parametrize("scheme", ["post-norm", "mhc", "attention-residuals", "by-layer", "admin(growth=profile)"])
def test_any_scheme_learns(dots, scheme):
    problem = problem_of(dots, scheme=scheme, num_layers=1)
    before = problem.build()
    problem.calibrate_(before)
    assert problem.evaluate(learned(problem, 12)) < problem.evaluate(before)


@pytest.mark.parametrize("head", ["change", "pixels"])
def test_any_head_learns(dots, head):
    problem = problem_of(dots, task=TASK.replace("given=3", f"head={head}, given=3"), num_layers=1)
    assert problem.evaluate(learned(problem, 25)) < problem.evaluate(problem.build())


def test_the_trivial_answers_are_those_of_the_same_clips(dots):
    problem = problem_of(dots)
    clips = np.stack([problem.splits.test.clip(i) for i in range(5)]) / 255
    scores = {score.name: score for score in problem.scores(problem.build(), limit=5)}
    copied, frozen = ((clips[:, 2:-1] - clips[:, 3:]) ** 2).mean(), ((clips[:, 2:3] - clips[:, 3:]) ** 2).mean()
    assert scores["MSE"].baseline == pytest.approx(copied, rel=1e-5)  # float32 pixels
    assert scores["MSE, 3 frames ahead"].baseline == pytest.approx(frozen, rel=1e-5)
    assert scores["MSE"].baseline_name == "last frame copied"
    assert all(score.baseline is None for score in problem.scores(problem.build(), limit=5, baselines=False))


def test_a_model_that_copies_scores_as_the_copy(dots):
    problem = problem_of(dots, task=TASK.replace("given=3", "head=change, given=3"))
    model = problem.build()
    with torch.no_grad():
        model.head.out.weight.zero_()
    for score in problem.scores(model, limit=5):
        assert score.value == pytest.approx(score.baseline, rel=1e-6)


def test_the_constant_answer_is_the_mean_frame(dots):
    problem = problem_of(dots)
    train = np.concatenate([problem.splits.train.clip(i) for i in range(0, len(problem.splits.train))]) / 255
    assert train.shape[0] > 6 * 200  # so that the mean is taken over a sample
    assert problem._mean[0].numpy() == pytest.approx(train.mean(0)[..., 0], abs=0.05)  # 200 clips of some 350
    true = problem._validation[:, 1:]
    assert problem.chance_loss == pytest.approx(float((problem._mean - true).square().mean()))
    assert problem.loss_unit == problem.chance_loss


def test_batches_are_a_function_of_seed_and_step(dots):
    one, again, other = problem_of(dots, seed=1), problem_of(dots, seed=1), problem_of(dots, seed=2)
    again.train_batch(0)
    for step in (0, 5, 10**6):
        first, second = one.train_batch(step), again.train_batch(step)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert not torch.equal(first[0], other.train_batch(step)[0])
        assert first[0].shape == (8, 6, 1, SIDE, SIDE)


def test_scheduled_training_goes_from_true_frames_to_predicted_ones(dots):
    problem = problem_of(dots, steps=400)
    unrolled = [bool(problem.train_batch(step)[1].all()) for step in range(0, 400, 4)]
    assert not unrolled[0]
    assert sum(unrolled[:25]) < 8 and 8 < sum(unrolled[25:75]) < 42 and sum(unrolled[75:]) > 17
    for training, expected in (("next-frame", False), ("unrolled", True)):
        problem = problem_of(dots, task=TASK.replace("given=3", f"training={training}, given=3"))
        assert all(bool(problem.train_batch(step)[1].all()) is expected for step in range(9))


def test_a_budget_in_tokens_is_one_in_steps(dots):
    tokens = 400 * 8 * 6 * 9
    for step in (3, 200, 399):
        in_tokens, in_steps = problem_of(dots, steps=None, tokens=tokens), problem_of(dots, steps=400)
        assert torch.equal(in_tokens.train_batch(step)[1], in_steps.train_batch(step)[1])
    assert problem_of(dots, steps=None, seconds=5.0)._unrolled_share(10**9) == 0.5


def test_bytes_survive_as_numbers():
    clip = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(1, 2, 3, 4, 3)
    assert numbers(clip).shape == (1, 2, 3, 3, 4)
    assert (bytes_of(numbers(clip)) == clip).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video-prediction(given=0)", "given=0"),
        ("video-prediction(head=moton)", "did you mean 'motion'"),
        ("video-prediction(training=mix)", "Allowed: next-frame, scheduled, unrolled"),
        ("video-prediction(size=1.5)", "size=1.5"),
        ("video-prediction(frames=3)", "frames"),
    ],
)
def test_a_choice_that_is_none_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        tasks.parse(text)


def test_data_that_do_not_fit_are_refused(dots, tmp_path):
    write_frames(tmp_path / "tiny" / "a", dot_video(0, side=8, length=30))
    for changes, data, message in [
        ({"task": "video-prediction(given=3, predicted=3, patch=5)"}, dots, "patch=5 does not divide"),
        ({"task": "video-prediction(given=20, predicted=20)"}, dots, "24 frames"),
        ({"task": "video-prediction(given=3, predicted=3, patch=4)"}, tmp_path / "tiny", "too small"),
        ({"segments": 2}, dots, "segments=2"),
        ({}, tmp_path / "no", "neither moving-digits"),
    ]:
        with pytest.raises(UserError, match=message):
            problem_of(data, **changes)


def test_small_moving_digits_are_one_digit_in_32_pixels():
    problem = problem_of("moving-digits-small", task="video-prediction(given=2, predicted=2)")
    assert problem.splits.shape == (4, 32, 32, 1)
    assert problem.tokens_per_example == 4 * 16
    assert problem.fingerprint != problem_of("moving-digits", task="video-prediction(given=2, predicted=2)").fingerprint
