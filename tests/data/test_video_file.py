from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from addnorm.data.pictures import videos
from addnorm.data.pictures.video_file import even_pace, upright
from addnorm.errors import UserError

av = pytest.importorskip("av", reason="the extra data is not installed")
IDENTITY, QUARTER = [1, 0, 0, 1], [0, 1, -1, 0]


def written(path: Path, count: int = 30, codec: str = "libx264", paces=None, size=(64, 32), gop: int = 12) -> Path:
    """Frame number i is grey of 8 i, its upper half brighter by 10."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size = "yuv420p", gop
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), number * 8, np.uint8)
            pixels[: size[1] // 2] += 10
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if paces is None else paces[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 8
    one = 1 << 16
    content[place : place + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def with_edit(path: Path, first: int, count: int, of: int) -> Path:
    """Of `of` frames show `count`, from number `first` on."""
    content = bytearray(path.read_bytes())
    place = content.find(b"elst") + 4
    assert struct.unpack(">I", content[place + 4 : place + 8])[0] == 1
    duration, start = struct.unpack(">Ii", content[place + 8 : place + 16])
    ticks = 512  # of a frame, at the 12,800 a second that 25 frames a second are written with
    content[place + 8 : place + 16] = struct.pack(">Ii", duration * count // of, start + first * ticks)
    path.write_bytes(content)
    return path


def shades(video: np.ndarray) -> list[int]:
    return [round(float(frame[-8:].mean()) / 8) for frame in video]


@pytest.mark.parametrize(
    "matrix, shape, bright",
    [
        ([1, 0, 0, 1], (32, 64), "top"),
        ([0, 1, -1, 0], (64, 32), "right"),
        ([0, -1, 1, 0], (64, 32), "left"),
        ([-1, 0, 0, -1], (32, 64), "bottom"),
        ([1, 0, 0, -1], (32, 64), "bottom"),
    ],
)
def test_a_video_is_turned_as_its_display_matrix_says(tmp_path, matrix, shape, bright):
    video = videos.read(with_matrix(written(tmp_path / "x.mp4", count=6), *matrix))
    assert video.shape[1:3] == shape
    last = video[-1].astype(int)
    sides = {"top": last[0], "bottom": last[-1], "left": last[:, 0], "right": last[:, -1]}
    assert max(sides, key=lambda side: sides[side].mean()) == bright


def test_turning_and_mirroring_are_those_of_the_standard():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    turn = lambda a, b, c, d: upright(pixels, np.array([a, b, 0, c, d, 0, 0, 0, 1], dtype=np.int32))[..., 0].tolist()  # noqa: E731
    assert turn(1, 0, 0, 1) == [[0, 1, 2], [3, 4, 5]]
    assert turn(0, 1, -1, 0) == [[3, 0], [4, 1], [5, 2]]  # x' = -y, y' = x: the top becomes the right side
    assert turn(0, -1, 1, 0) == [[2, 5], [1, 4], [0, 3]]
    assert turn(-1, 0, 0, 1) == [[2, 1, 0], [5, 4, 3]]
    assert turn(0, 1, 1, 0) == [[0, 3], [1, 4], [2, 5]]
    assert turn(3, 1, -1, 3) == [[0, 1, 2], [3, 4, 5]]  # not by a multiple of 90 degrees


def test_a_trimmed_video_shows_what_a_player_shows(tmp_path):
    path = with_edit(written(tmp_path / "x.mp4"), first=10, count=12, of=30)
    assert shades(videos.read(path)) == list(range(10, 22))


def test_a_trimmed_video_that_is_cut_off_is_refused(tmp_path):
    path = written(tmp_path / "x.mp4", gop=1, size=(128, 96))
    whole = path.read_bytes()
    moved = tmp_path / "y.mp4"  # with its index before its pictures, as videos on the web are
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with_edit(moved, first=3, count=12, of=30)
    moved.write_bytes(moved.read_bytes()[: len(whole) * 6 // 10])
    with pytest.raises(UserError, match=r"y\.mp4 (has \d+ frames, its header says 30: it is cut off|is damaged)"):
        videos.read(moved)


def test_frames_that_stand_longer_are_shown_longer(tmp_path):
    assert even_pace([0, 0.04, 0.08, 0.24, 0.28], 25.0) == [0, 1, 2, 2, 2, 2, 3, 4]
    # 13 frames over 60 ticks of the file's clock: at its own average every fifth of them is on the screen.
    paces = [*range(12), 59]
    shown = shades(videos.read(written(tmp_path / "x.mkv", count=13, codec="mpeg4", paces=paces, gop=1)))
    assert shown[0] == 0 and shown[-1] == 12 and shown == sorted(shown)
    assert shown.count(11) > len(shown) // 2


def test_an_even_pace_with_jitter_stays_as_it_is(tmp_path):
    assert len(videos.read(written(tmp_path / "x.mp4"))) == 30
    jitter = [number / 30 + (0.01 if number % 2 else 0) for number in range(20)]
    assert even_pace(jitter, 30.0) == list(range(20))
    assert even_pace([None, 0.1], 10.0) == [0, 1] and even_pace([0.2, 0.1, 0.3], 10.0) == [0, 1, 2]


def test_frames_of_a_file_and_of_a_folder_are_resized_alike(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    path = written(tmp_path / "x.mp4", count=4)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(videos.read(path)):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number}.png")
    assert (videos.read(path, size=(16, 24)) == videos.read(tmp_path / "frames", size=(16, 24))).all()


def test_a_video_is_brought_to_a_pace(tmp_path):
    path = written(tmp_path / "x.mp4")
    assert shades(videos.read(path, fps=12.5)) == list(range(0, 30, 2))
    assert shades(videos.read(path, fps=50))[:5] == [0, 0, 1, 1, 2]
    splits = videos.load(str(path), frames=3, fps=12.5)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 15 - 3 * 2
