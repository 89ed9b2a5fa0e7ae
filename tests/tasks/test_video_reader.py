"""A run of video prediction: what it leaves, and what users may hand it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from addnorm import tasks
from addnorm.errors import UserError
from addnorm.tasks.video.video_reader import VideoKind
from addnorm.training.load import load_run
from addnorm.training.run import train
from tasks.moving_dot import SIDE, Image, config_of, dot_video, problem_of, write_frames, write_videos


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("dots"))


@pytest.fixture(scope="module")
def run(dots, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config_of(dots, steps=4, saves=2), folder)
    return folder


def test_a_run_leaves_scores_and_answers_again(run, dots):
    loaded = load_run(run)
    stored = json.loads((run / "result.json").read_text())["scores"]
    problem = tasks.prepare(loaded.config, loaded.reader)
    scores = problem.scores(loaded.model, "validation", 4, baselines=False)
    assert [score.value for score in scores] == [score["value"] for score in stored]
    assert json.loads((run / "video.json").read_text()) == {"height": SIDE, "width": SIDE, "channels": 1}


def test_a_stopped_run_goes_on_as_if_it_had_not_been(run, dots, tmp_path):
    def crash(progress):
        if progress.step == 3:
            raise KeyError

    config = config_of(dots, steps=4, saves=2)
    with pytest.raises(KeyError):
        train(config, tmp_path / "again", on_progress=crash)
    result = train(config, tmp_path / "again", resume=True)
    assert result["scores"] == json.loads((run / "result.json").read_text())["scores"]


def test_a_test_clip_is_predicted_beside_what_came(run, dots, tmp_path):
    loaded = load_run(run)
    prediction = loaded.reader.predict(loaded.model, "2", loaded.config)
    assert "MSE" in prediction.text and prediction.write is not None
    strip, animation = prediction.write(tmp_path)
    with Image.open(strip) as picture:
        # Two rows, six frames of 12 pixels made six times as large, two pixels between them.
        assert picture.size == (6 * 72 + 5 * 2, 2 * 72 + 2)
        shown = np.asarray(picture.convert("L"))
    clip = problem_of(dots).splits.test.clip(2)[..., 0]
    assert (shown[:72:6, : 72 * 6 : 74][:, 0] == clip[0, :, 0]).all()
    assert (shown[0:72:6, 74:146:6] == clip[1]).all()
    with Image.open(animation) as moving:
        assert moving.size == (2 * 72 + 2, 72) and getattr(moving, "n_frames", 1) >= 4


def test_frames_of_a_folder_go_on_after_its_last(run, tmp_path):
    loaded = load_run(run)
    folder = write_frames(tmp_path / "mine", dot_video(99, length=4))
    prediction = loaded.reader.predict(loaded.model, str(folder), loaded.config)
    assert "MSE" not in prediction.text  # nobody knows what comes
    written = prediction.write(tmp_path) if prediction.write else []
    assert [path.name for path in written] == ["prediction-mine.png", "prediction-mine.gif"]
    with Image.open(written[0]) as picture:
        assert picture.size == (6 * 72 + 5 * 2, 72)


def test_pictures_of_another_size_and_in_colour_are_made_to_fit(run, tmp_path):
    loaded = load_run(run)
    large = dot_video(98, length=4).repeat(2, axis=1).repeat(2, axis=2)[..., None].repeat(3, axis=3)
    folder = write_frames(tmp_path / "large", large)
    small = write_frames(tmp_path / "small", dot_video(98, length=4))
    ours = [loaded.reader._clip(str(path), loaded.config) for path in (folder, small)]
    assert ours[0].shape == ours[1].shape == (4, SIDE, SIDE, 1)
    assert np.abs(ours[0].astype(int) - ours[1]).mean() < 20  # resized pictures have soft edges


def test_an_evaluation_draws_test_clips(run, tmp_path):
    loaded = load_run(run)
    problem = tasks.prepare(loaded.config, loaded.reader)
    written = problem.report(loaded.model, tmp_path)
    assert [path.suffix for path in written] == [".png", ".gif"] * 4
    assert all(path.stat().st_size > 100 for path in written)


def test_a_video_file_is_read_and_a_cut_one_is_refused(run, tmp_path):
    av = pytest.importorskip("av")
    whole, cut = tmp_path / "dot.avi", tmp_path / "cut.avi"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuvj420p"
        for frame in dot_video(5).repeat(4, axis=1).repeat(4, axis=2):
            picture = av.VideoFrame.from_ndarray(frame[..., None].repeat(3, axis=2), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuvj420p")))
        container.mux(stream.encode())
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    loaded = load_run(run)
    assert "MSE" in loaded.reader.predict(loaded.model, str(whole), loaded.config).text
    with pytest.raises(UserError, match=r"cut\.avi"):
        loaded.reader.predict(loaded.model, str(cut), loaded.config)


def test_what_cannot_be_predicted_is_refused(run, dots, tmp_path):
    loaded = load_run(run)
    short = write_frames(tmp_path / "short", dot_video(1, length=2))
    cases = [
        ("100000", None, "test clip 100000 does not exist"),
        (str(tmp_path / "nothing.mp4"), None, "does not exist; name a video file"),
        ("", None, "does not exist"),
        (str(short), None, "has 2 frames; at least 3"),
        ("0", "more", "takes one video"),
    ]
    for given, beside, message in cases:
        with pytest.raises(UserError, match=message):
            loaded.reader.predict(loaded.model, given, loaded.config, beside)


def test_videos_of_another_size_are_not_evaluated(run, tmp_path):
    write_frames(tmp_path / "other" / "a", dot_video(0, side=16, length=40))
    loaded = load_run(run)
    config = config_of(tmp_path / "other")
    with pytest.raises(UserError, match="the run was trained on 12 x 12 x 1"):
        tasks.prepare(config, loaded.reader)


def test_a_damaged_size_is_refused(tmp_path):
    for content in ("", "{}", '{"height": 3}'):
        (tmp_path / "video.json").write_text(content)
        with pytest.raises(UserError, match="cannot be read"):
            VideoKind.read(tmp_path)
