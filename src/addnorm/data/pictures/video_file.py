"""A video file as a player shows it: turned, trimmed, at an even pace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addnorm.data.pictures.picture_file import GREY, Size, fit
from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt8

SLACK = 1e-6
"""Of a tick: times are sums of rounded numbers."""
UNEVEN = 0.5
"""Of an interval: how far a frame may be off an even pace (a clock of milliseconds, a camera's jitter)."""


def read_file(
    path: Path, *, size: Size | None = None, channels: int | None = None, fps: float = 0
) -> UInt8[np.ndarray, "time height width channels"]:
    """The frames that a player shows, in order; an uneven pace is made even by showing frames longer, or not at all.

    Args:
        path: the file.
        size: height and width that the frames are brought to; None leaves them.
        channels: 1 for grey, 3 for colour; None for 3.
        fps: frames a second of what comes out; 0 for the file's own pace, its average where that is uneven.

    Raises:
        UserError: it is no video, is cut off or damaged; or the extra `data` is missing.
    """
    av = _pyav(path)
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; use a video file.")
    pixels: list[np.ndarray] = []
    times: list[float | None] = []
    try:
        promised, stored = _stored(av, path)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            shown = _Shown()
            for frame in shown.frames(container):
                pixels.append(_pixels(frame, size, channels))
                times.append(frame.time)
            rate = float(stream.average_rate or 0)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        where = f"damaged after frame {len(pixels)}" if pixels else "no video that can be read"
        raise UserError(f"{path} is {where} ({_reason(error)}); use a whole video file.") from None
    if stored < promised:
        raise UserError(f"{path} has {stored} frames, its header says {promised}: it is cut off; copy it again.")
    if not pixels or (promised and len(pixels) < shown.packets):
        raise UserError(f"{path} is damaged: {len(pixels)} of {shown.packets} frames can be read; copy it again.")
    return np.stack([pixels[place] for place in (ticks(times, fps) if fps else even_pace(times, rate))])


def even_pace(times: list[float | None], rate: float) -> list[int]:
    """Which frame is on the screen at each tick of an even clock; all of them, once, where the pace is even already.

    Args:
        times: when each frame appears, in seconds; None where the file does not say.
        rate: ticks a second: the file's own average.

    >>> even_pace([0.0, 0.1, 0.2, 0.3], 10.0)
    [0, 1, 2, 3]
    >>> even_pace([0.0, 0.1, 0.4, 0.5], 10.0)  # the second frame stands for three ticks
    [0, 1, 1, 1, 2, 3]
    """
    places = np.arange(len(times))
    appears = _appears(times)
    if appears is None or rate <= 0 or np.abs(appears * rate - places).max() <= UNEVEN:
        return places.tolist()
    return ticks(times, rate)


def ticks(times: list[float | None], fps: float) -> list[int]:
    """Which frame is on the screen in the middle of each tick of a clock; all of them, once, if times are missing.

    >>> ticks([0.0, 0.1, 0.2, 0.3, 0.4], 5.0)
    [0, 2, 4]
    """
    appears = _appears(times)
    if appears is None:
        return list(range(len(times)))
    middles = np.arange(round(float(appears[-1]) * fps) + 1) + UNEVEN
    return (np.searchsorted(appears * fps, middles - SLACK, side="right") - 1).tolist()


def _appears(times: list[float | None]) -> np.ndarray | None:
    """Seconds from the first frame on; None where the file does not say, or says that time runs backwards."""
    known = np.array([time for time in times if time is not None])
    if len(known) < max(len(times), 2) or (np.diff(known) <= 0).any():
        return None
    return known - known[0]


def upright(
    pixels: UInt8[np.ndarray, "height width channels"], matrix: Int32[np.ndarray, "9"]
) -> UInt8[np.ndarray, "shown_height shown_width channels"]:
    """A frame turned and mirrored as a display matrix says, if by multiples of 90 degrees.

    ISO/IEC 14496-12, 6.2.2: `x' = a x + c y, y' = b x + d y` with the matrix `(a b u, c d v, x y w)`.
    """
    a, b, _, c, d, *_ = np.sign(matrix).tolist()
    if a == d == 0 and b and c:
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    elif b == c == 0 and a and d:
        across, down = a, d
    else:
        return pixels
    return np.ascontiguousarray(pixels[::down, ::across])


class _Shown:
    """The frames of a container that are to be shown, and how many of its packets should have given one."""

    def __init__(self) -> None:
        self.packets = 0

    def frames(self, container: Any) -> Iterator[Any]:
        for packet in container.demux(container.streams.video[0]):
            self.packets += packet.size > 0 and not packet.is_discard
            yield from packet.decode()


def _stored(av: Any, path: Path) -> tuple[int, int]:
    """How many frames the header promises (0: it does not say), and how many are stored, trimmed ones included."""
    with av.open(str(path), options={"ignore_editlist": "1"}) as container:
        if not container.streams.video:
            raise UserError(f"{path} has no video stream; use a video file.")
        stream = container.streams.video[0]
        if not stream.frames:
            return 0, 0
        return stream.frames, sum(packet.dts is not None for packet in container.demux(stream))


def _pixels(frame: Any, size: Size | None, channels: int | None) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            pixels = upright(pixels, np.frombuffer(bytes(data), dtype=np.int32))
    if size in (None, pixels.shape[:2]) and channels != GREY:
        return pixels
    from PIL import Image

    return fit(Image.fromarray(pixels), size=size, channels=channels)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _pyav(path: Path) -> Any:
    try:
        import av
        import av.error
    except ImportError:
        raise UserError(f"{path} needs the extra data; run: pip install 'addnorm[data]'") from None
    return av
