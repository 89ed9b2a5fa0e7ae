"""Video clips by their name on the command line: moving digits, folders of frames, or video files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from addnorm.data.pictures.picture_file import SUFFIXES, Size, picture, stack
from addnorm.data.pictures.video_file import read_file
from addnorm.data.sets.moving_digits import MovingDigits
from addnorm.data.sources.hidden_files import shown_files, shown_here
from addnorm.data.texts.text import HELD_OUT
from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import UInt8

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif", ".m4v", ".mpg", ".mpeg")
PICTURES = tuple(suffix for suffix in SUFFIXES if suffix not in VIDEOS)
"""Endings of frames; a GIF among videos is a video."""
MAX_BYTES = 2**31
"""Of decoded frames that are kept in memory; more is refused with the way out (a smaller size)."""
_FIRST_CLIPS = 4


class Clips(Protocol):
    """Clips of one length and size, by number."""

    def __len__(self) -> int: ...

    def clip(self, index: int) -> UInt8[np.ndarray, "frames height width channels"]:
        """The clip of that number, the same every time."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoSplits:
    """Clips to train on, to choose by, and to report on; no video is in two of them."""

    origin: str
    train: Clips
    validation: Clips
    test: Clips

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Frames, height, width, channels."""
        frames, height, width, channels = self.train.clip(0).shape
        return frames, height, width, channels

    def fingerprint(self) -> str:
        """SHA-256 over each split's number of clips and its first, middle and last ones."""
        digest = hashlib.sha256(self.origin.encode())
        for split in (self.train, self.validation, self.test):
            digest.update(f"split {len(split)}\n".encode())
            for index in sorted({part * (len(split) - 1) // _FIRST_CLIPS for part in range(_FIRST_CLIPS + 1)}):
                digest.update(split.clip(index).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipWindows:
    """Every run of `frames` frames in some videos, as clips."""

    videos: tuple[UInt8[np.ndarray, "time height width channels"], ...]
    frames: int

    def __len__(self) -> int:
        return sum(len(video) - self.frames + 1 for video in self.videos)

    def clip(self, index: int) -> UInt8[np.ndarray, "frames height width channels"]:
        """The clip of that number: those of the first video, then those of the second."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        for video in self.videos:
            here = len(video) - self.frames + 1
            if index < here:
                return video[index : index + self.frames]
            index -= here
        raise AssertionError(index)


def load(
    source: str, *, frames: int = 20, size: int = 0, digits: int = 2, seed: int = 0, fps: float = 0
) -> VideoSplits:
    """The clips that `source` names, in three splits.

    Args:
        source: "moving-digits"; a video file; a folder of video files; a folder of folders that hold one video's
            frames each, as PNG or JPEG files in alphabetical order. Whole videos are held out; of a single one its
            end is.
        frames: frames of a clip.
        size: height and width the frames are brought to; 0 leaves a user's as they are and means 64 for moving digits.
        digits: digits in a clip of moving digits.
        seed: of moving digits.
        fps: frames a second that video files are brought to; 0 for their own.

    Raises:
        UserError: the source is missing, damaged, too short for a clip, has frames of mixed sizes, or needs the extra
            `data`.
    """
    if source == "moving-digits":
        splits = {
            split: MovingDigits(split=split, size=size or 64, digits=digits, frames=frames, seed=seed)
            for split in ("train", "validation", "test")
        }
        return VideoSplits(origin=source, **splits)
    path = Path(source).expanduser()
    if not source or not path.exists():
        raise UserError(
            f"video data '{source}' is neither moving-digits nor a file or folder; use one of them, "
            f"with {', '.join(VIDEOS)} or folders of PNG or JPEG frames."
        )
    names, videos = _read_all(path, frames, size, fps)
    train, validation, test = _hold_out(names, videos, frames, source)
    return VideoSplits(
        origin=source,
        train=ClipWindows(videos=train, frames=frames),
        validation=ClipWindows(videos=validation, frames=frames),
        test=ClipWindows(videos=test, frames=frames),
    )


def read(
    path: Path, *, size: Size | None = None, channels: int | None = None, fps: float = 0
) -> UInt8[np.ndarray, "time height width channels"]:
    """All frames of a video file or of a folder of frames, as a player or a viewer shows them.

    Args:
        path: the file, or the folder.
        size: height and width that the frames are brought to; None leaves them.
        channels: 1 for grey, 3 for colour; None for as they are.
        fps: frames a second that a file is brought to; 0 for its own. A folder of frames has no times.

    Raises:
        UserError: it is no video, is cut off, or has frames of mixed sizes; or the extra `data` is missing.
    """
    if not path.is_dir():
        return read_file(path, size=size, channels=channels, fps=fps)
    paths = _pictures(path)
    if not paths:
        raise UserError(f"{path} has no frame; put PNG or JPEG files there.")
    return stack([picture(frame, size=size, channels=channels) for frame in paths], paths)


def _read_all(path: Path, frames: int, size: int, fps: float) -> tuple[list[str], list[np.ndarray]]:
    paths = _find(path)
    videos, total = [], 0
    for place in paths:
        video = read(place, size=(size, size) if size else None, fps=fps)
        total += video.nbytes
        if len(video) < frames:
            raise UserError(
                f"{place} has {len(video)} frames, a clip needs {frames}; use a longer video or fewer frames."
            )
        if videos and video.shape[1:] != videos[0].shape[1:]:
            raise UserError(
                f"{paths[0]} has frames of {_size(videos[0])} and {place} of {_size(video)}; "
                "all videos must have one size: set size=64, for example."
            )
        if total > MAX_BYTES:
            raise UserError(
                f"{path} has more than {MAX_BYTES >> 30} GiB of frames; set a smaller size, or use fewer videos."
            )
        videos.append(video)
    return [place.name for place in paths], videos


def _find(path: Path) -> list[Path]:
    """The videos of a source: files, or folders of frames."""
    if path.is_file() or _pictures(path):
        return [path]
    files = [file for file in shown_files(path) if file.suffix.lower() in VIDEOS]
    folders = [folder for folder in shown_here(path) if folder.is_dir() and _pictures(folder)]
    if not files and not folders:
        raise UserError(f"{path} has no video; use {', '.join(VIDEOS)} files or folders of PNG or JPEG frames.")
    return files or folders


def _pictures(folder: Path) -> list[Path]:
    return [file for file in shown_here(folder) if file.suffix.lower() in PICTURES and file.is_file()]


def _hold_out(names: list[str], videos: list[np.ndarray], frames: int, source: str) -> list[tuple[np.ndarray, ...]]:
    """Whole videos, by the hash of their names; of fewer than three, the ends."""
    if len(videos) < 3:
        return _ends(videos, frames, source)
    order = sorted(range(len(videos)), key=lambda place: hashlib.sha256(names[place].encode()).hexdigest())
    count = max(1, round(HELD_OUT * len(videos)))
    chosen = [order[2 * count :], order[:count], order[count : 2 * count]]
    return [tuple(videos[place] for place in sorted(part)) for part in chosen]


def _ends(videos: list[np.ndarray], frames: int, source: str) -> list[tuple[np.ndarray, ...]]:
    parts: list[list[np.ndarray]] = [[], [], []]
    for video in videos:
        share = max(frames, round(HELD_OUT * len(video)))
        first = len(video) - 2 * share
        if first < frames:
            raise UserError(
                f"{source} has a video of {len(video)} frames; to hold clips of {frames} frames out, "
                f"{3 * frames} are needed: use a longer video, three or more videos, or fewer frames."
            )
        for part, piece in zip(parts, np.split(video, [first, first + share]), strict=True):
            part.append(piece)
    return [tuple(part) for part in parts]


def _size(video: np.ndarray) -> str:
    return f"{video.shape[2]} x {video.shape[1]} x {video.shape[3]}"
