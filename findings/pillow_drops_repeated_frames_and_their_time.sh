#!/usr/bin/env bash
# Pillow 13.0.0: an animation loses frames that repeat in GIF, PNG and WebP, and a still one loses its time in the
# last two.
#
# Expected: `save(save_all=True, append_images=...)` of five frames of 100 ms writes five frames, as TIFF and AVIF
# do, so that frame n of the file is frame n of the array.
# Observed: three equal frames and two equal ones become two frames in GIF, PNG and WebP, which last 300 and 200 ms. Four
# equal frames become a single one: of 400 ms in GIF, with no duration in PNG and of 0 ms in WebP.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
from PIL import Image


def read_back(levels, kind):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in levels]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=100)
    image = Image.open(buffer)
    durations = []
    for n in range(getattr(image, "n_frames", 1)):
        image.seek(n)
        image.load()
        durations.append(image.info.get("duration"))
    return [None if duration is None else round(duration) for duration in durations]


seen = {}
for kind in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):
    seen[kind] = [read_back(levels, kind) for levels in ([0, 20, 40, 60, 80], [0, 0, 0, 99, 99], [50] * 4)]
    print(kind, "different, 3 + 2 equal, 4 equal:", seen[kind])
assert [[len(durations) for durations in made] for made in seen.values()] == [
    [5, 2, 1], [5, 2, 1], [5, 2, 1], [5, 5, 4], [5, 5, 4],
], "the behaviour has changed"  # fmt: skip
assert [seen[kind][2] for kind in ("GIF", "PNG", "WEBP")] == [[400], [None], [0]], "the behaviour has changed"
PYTHON
