from __future__ import annotations

import io

import numpy as np
import pytest

from addnorm.data.pictures import png


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_back_what_is_written(channels):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, channels), dtype=np.uint8)
    found = np.asarray(image.open(io.BytesIO(png.encode(pixels))))
    assert np.array_equal(found.reshape(pixels.shape), pixels)


def test_a_sheet_holds_each_image_in_its_place():
    images = np.random.default_rng(0).integers(0, 100, (5, 3, 4, 1), dtype=np.uint8)
    sheet = png.sheet(images, columns=2, scale=2)
    assert sheet.shape == (3 * 7 + 1, 2 * 9 + 1, 1)
    assert np.array_equal(sheet[8:14:2, 10:18:2], images[3])
    assert (sheet[15:21, 10:18] == png.PAPER).all()  # no sixth image
