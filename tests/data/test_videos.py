from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from addnorm.data.pictures import videos
from addnorm.data.sets.moving_digits import MovingDigits, _shapes, bounce
from addnorm.errors import UserError


def copy_last_error(clips: MovingDigits, count: int) -> float:
    seen = clips.frames // 2
    total = 0.0
    for index in range(count):
        clip = clips.clip(index) / 255
        total += ((clip[seen:] - clip[seen - 1]) ** 2).mean()
    return total / count


def test_a_clip_is_a_function_of_seed_and_number():
    clips = MovingDigits(seed=3, size=32, frames=6)
    assert clips.clip(5).shape == (6, 32, 32, 1) and clips.clip(5).dtype == np.uint8
    assert (clips.clip(5) == MovingDigits(seed=3, size=32, frames=6).clip(5)).all()
    assert (clips.clip(5) != clips.clip(6)).any()
    assert (clips.clip(5) != MovingDigits(seed=4, size=32, frames=6).clip(5)).any()


def test_held_out_clips_do_not_follow_the_seed():
    one, other = (MovingDigits(split="test", seed=seed, size=32, frames=4).clip(9) for seed in (0, 1))
    assert (one == other).all()


def test_the_digits_of_the_splits_are_different_ones():
    shapes = [{shape.tobytes() for shape in _shapes(split, 28)} for split in ("train", "validation", "test")]
    assert [len(part) for part in shapes] == [4000, 500, 500]
    assert not shapes[0] & shapes[1] and not shapes[0] & shapes[2] and not shapes[1] & shapes[2]


def test_one_digit_keeps_its_ink_while_it_moves():
    clip = MovingDigits(digits=1, frames=40).clip(0).astype(np.int64)
    ink = clip.sum(axis=(1, 2, 3))
    assert (ink == ink[0]).all()
    assert len({frame.tobytes() for frame in clip}) > 30


def test_a_digit_goes_straight_and_comes_back_from_the_edge():
    assert bounce(np.array([0.0, 4.0, 6.0, 10.0, 13.0, -2.0]), 5.0).tolist() == [0.0, 4.0, 4.0, 0.0, 3.0, 2.0]


def test_repeating_the_last_frame_has_the_error_the_docstring_says():
    # 200 clips of 1,000: the mean over all was 0.0646 and 0.0462; clips differ by a third.
    assert copy_last_error(MovingDigits(split="test"), 200) == pytest.approx(0.065, abs=0.005)
    assert copy_last_error(MovingDigits(split="test", size=32, frames=10), 200) == pytest.approx(0.046, abs=0.005)


@pytest.mark.parametrize("choice", [{"split": "dev"}, {"size": 8}, {"digits": 0}, {"frames": 1}])
def test_impossible_clips_are_refused(choice):
    with pytest.raises(UserError, match="use "):
        MovingDigits(**choice)


def test_moving_digits_are_a_source():
    splits = videos.load("moving-digits", frames=6, size=32)
    assert splits.shape == (6, 32, 32, 1)
    assert len(splits.train) > 10**9 and len(splits.validation) == len(splits.test) == 1000
    assert splits.fingerprint() == videos.load("moving-digits", frames=6, size=32).fingerprint()
    assert splits.fingerprint() != videos.load("moving-digits", frames=6, size=32, seed=1).fingerprint()
    with pytest.raises(IndexError):
        splits.test.clip(1000)


def frame_folder(folder: Path, count: int, size: int = 6, shade: int = 0) -> Path:
    pillow = pytest.importorskip("PIL.Image", reason="the extra data is not installed")
    folder.mkdir(parents=True)
    for number in range(count):
        pillow.new("L", (size, size), shade + number).save(folder / f"{number:03}.png")
    return folder


def video_file(path: Path, count: int = 12, size: int = 32) -> Path:
    av = pytest.importorskip("av", reason="the extra data is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(
                np.full((size, size, 3), min(20 * number, 255), np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_whole_folders_of_frames_are_held_out(tmp_path):
    for number in range(4):
        frame_folder(tmp_path / f"clip {number}", 8, shade=number * 10)
    splits = videos.load(str(tmp_path), frames=5)
    assert splits.shape == (5, 6, 6, 1)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [8, 4, 4]
    first = {int(splits.train.clip(index)[0, 0, 0, 0]) // 10 for index in range(8)}
    assert len(first) == 2 and int(splits.test.clip(0)[0, 0, 0, 0]) // 10 not in first
    assert np.diff(splits.train.clip(3)[:, 0, 0, 0]).tolist() == [1, 1, 1, 1]


def test_the_end_of_a_single_video_is_held_out(tmp_path):
    splits = videos.load(str(frame_folder(tmp_path / "only", 30)), frames=4)
    shades = [part.clip(0)[0, 0, 0, 0] for part in (splits.train, splits.validation, splits.test)]
    assert shades == [0, 22, 26]
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [19, 1, 1]


def test_video_files_are_read(tmp_path):
    for name in "abc":
        video_file(tmp_path / f"{name}.mp4")
    splits = videos.load(str(tmp_path), frames=10, size=16)
    assert splits.shape == (10, 16, 16, 3) and len(splits.train) == 3
    shades = splits.train.clip(0)[:, 8, 8, 0].astype(int)
    assert abs(shades - 20 * np.arange(10)).max() < 12  # a lossy codec in another colour space


def test_a_video_cut_off_is_refused_with_its_name(tmp_path):
    path = video_file(tmp_path / "cut.avi", count=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        UserError, match=r"cut.avi (has \d+ frames, its header says \d+: it is cut off|is damaged|is no video)"
    ):
        videos.read(path)


@pytest.mark.parametrize("content, message", [(b"", "is empty"), (b"no video at all", "is no video that can be read")])
def test_a_file_that_is_no_video_is_refused(tmp_path, content, message):
    pytest.importorskip("av", reason="the extra data is not installed")
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        videos.load(str(path))
    assert "\n" not in str(caught.value)


def test_mistakes_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="video data 'gone' is neither moving-digits nor a file or folder"):
        videos.load("gone")
    with pytest.raises(UserError, match="has no video; use .mp4"):
        videos.load(str(tmp_path))
    frame_folder(tmp_path / "short", 3)
    with pytest.raises(UserError, match="short has 3 frames, a clip needs 5"):
        videos.load(str(tmp_path), frames=5)
    with pytest.raises(UserError, match="a video of 3 frames; to hold clips of 2 frames out, 6 are needed"):
        videos.load(str(tmp_path), frames=2)
    frame_folder(tmp_path / "wide", 4, size=7)
    with pytest.raises(UserError, match="short has frames of 6 x 6 x 1 and .*wide of 7 x 7 x 1; .*size="):
        videos.load(str(tmp_path), frames=2)
    assert videos.load(str(tmp_path / "wide" / ".."), frames=1, size=4).shape == (1, 4, 4, 1)


def test_frames_of_mixed_sizes_are_refused(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("L", (9, 9)).save(frame_folder(tmp_path / "mixed", 30) / "099.png")
    with pytest.raises(UserError, match="000.png has 6 x 6 pixels and .*099.png 9 x 9"):
        videos.load(str(tmp_path), frames=2)


def test_without_pyav_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "x.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"needs the extra data; run: pip install 'addnorm\[data\]'"):
        videos.load(str(tmp_path))
