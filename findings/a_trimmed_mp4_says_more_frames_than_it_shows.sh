#!/usr/bin/env bash
# PyAV 18.1.0 (with its FFmpeg): `stream.frames` of a trimmed MP4 counts frames that decoding the whole file never
# gives.
#
# Expected: MP4, unlike Matroska, stores an exact table of its samples, so that `stream.frames` is the number of
# frames that `decode` gives; if some are hidden, `duration` tells how many are shown.
# Observed: a file cut without re-encoding at 1.5 s has to start at the key frame before; an edit list hides the frames
# up to the cut. `stream.frames` counts them (21), decoding gives 15, and `duration` fits the 15. Only the option
# `ignore_editlist` brings the other six out.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import io

import av
import numpy as np


def encoded(frames=30):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 10
        for n in range(frames):
            picture = np.full((32, 32, 3), 8 * n, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def cut(data, seconds):
    """Copy the packets from the key frame before `seconds` on, with times that count from `seconds`."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format="mp4") as file:
        stream = source.streams.video[0]
        copy = file.add_stream_from_template(stream)
        source.seek(int(seconds * 1e6))
        for packet in source.demux(stream):
            if packet.dts is not None:
                shift = int(seconds / float(packet.time_base))
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                file.mux(packet)
    return buffer.getvalue()


def counted(data, **options):
    with av.open(io.BytesIO(data), options=options) as file:
        stream = file.streams.video[0]
        return stream.frames, sum(1 for _ in file.decode(stream)), float(stream.duration * stream.time_base)


whole = encoded()
trimmed = cut(whole, 1.5)
cases = {
    "whole": counted(whole),
    "trimmed": counted(trimmed),
    "trimmed, ignore_editlist": counted(trimmed, ignore_editlist="1"),
}
for name, (frames, decoded, seconds) in cases.items():
    print(f"{name}: stream.frames {frames}, decoded {decoded}, duration {seconds:.1f} s at 10 frames a second")
(_, *known), (frames, decoded, seconds), (_, revealed, _) = cases.values()
assert known[0] == 30 and decoded == 15 < frames == revealed and round(seconds, 1) == 1.5, "the behaviour has changed"
PYTHON
