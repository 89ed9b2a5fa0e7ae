from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from addnorm.data.pictures import images
from addnorm.data.pictures.picture_file import LeftOutWarning, picture
from addnorm.errors import UserError

Image = pytest.importorskip("PIL.Image", reason="the extra data is not installed")

# What [[1, 2, 3], [4, 5, 6]] looks like under each EXIF orientation.
TURNED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("orientation, expected", TURNED.items())
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation, expected, suffix):
    shades = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8) * 40
    image = Image.fromarray(shades.repeat(16, axis=0).repeat(16, axis=1)).convert("RGB")
    exif = image.getexif()
    exif[0x112] = orientation
    quality = {".jpg": {"quality": 100}, ".webp": {"lossless": True}}.get(suffix, {})
    image.save(tmp_path / f"x{suffix}", exif=exif, **quality)
    found = picture(tmp_path / f"x{suffix}")[8::16, 8::16, 0]
    assert np.abs(found.astype(int) - 40 * np.array(expected)).max() <= 2  # JPEG rounds


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_leaves_the_picture_as_it_is_stored(tmp_path):
    path = saved(tmp_path / "x.jpg", np.full((8, 16, 3), 9), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0")
    assert picture(path).shape == (8, 16, 3)


@pytest.mark.parametrize(
    "suffix, mode",
    [
        (".png", "RGBA"),
        (".png", "LA"),
        (".png", "P"),
        (".webp", "RGBA"),
        (".gif", "RGBA"),
        (".tif", "RGBA"),
        (".tif", "LA"),
    ],
)
def test_what_is_transparent_is_white_whatever_colour_hides_there(tmp_path, suffix, mode):
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[2:6, 2:6, 3] = 255  # a black square, black all around it, which nobody sees
    lossless = {".webp": {"lossless": True}}.get(suffix, {})
    found = picture(saved(tmp_path / f"x{suffix}", pixels, mode, **lossless))
    assert (found[2:6, 2:6] == 0).all() and (found[0] == 255).all() and (found[:, 0] == 255).all()
    assert found.shape[2] == (1 if mode == "LA" else 3)


def test_half_transparent_colours_are_mixed_with_white(tmp_path):
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, 128
    assert picture(saved(tmp_path / "x.png", pixels))[0, 0].tolist() == [227, 127, 127]  # 255 - 128 / 255 * (255 - c)


def test_sixteen_bits_of_grey_are_read_by_their_upper_eight(tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 256 + 255
    Image.fromarray(levels).save(tmp_path / "x.png")
    assert (picture(tmp_path / "x.png")[..., 0] == np.arange(256).reshape(16, 16)).all()


def test_a_description_that_draws_is_no_picture(tmp_path):
    (tmp_path / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(UserError, match="is no picture"):
        picture(tmp_path / "x.png")


def folder_of(root: Path, suffixes: list[str]) -> Path:
    for name, shade in (("cat", 10), ("dog", 200)):
        (root / name).mkdir(parents=True)
        for i in range(20):
            saved(root / name / f"{i:02}{suffixes[i % len(suffixes)]}", np.full((4, 4, 3), shade))
    return root


def test_pictures_of_all_kinds_are_read_from_one_folder(tmp_path):
    splits = images.load(str(folder_of(tmp_path, [".png", ".webp", ".bmp", ".gif", ".JPG", ".tiff"])))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 40


def test_what_systems_leave_beside_a_users_files_is_no_picture(tmp_path):
    folder_of(tmp_path, [".png"])
    (tmp_path / "cat" / "._00.png").write_bytes(b"\0\5\x16\7")
    for hidden in ("__MACOSX", ".thumbnails"):
        (tmp_path / "dog" / hidden).mkdir()
        (tmp_path / "dog" / hidden / "00.png").write_bytes(b"no picture")
        (tmp_path / hidden / "cat").mkdir(parents=True)
        (tmp_path / hidden / "cat" / "00.png").write_bytes(b"no picture")
    splits = images.load(str(tmp_path))
    assert splits.classes == ("cat", "dog") and len(splits.train) == 36


def test_files_that_are_left_out_are_named(tmp_path):
    folder_of(tmp_path, [".png"])
    for number in range(4):
        (tmp_path / "cat" / f"{number}.heic").write_bytes(b"x")
    with pytest.warns(LeftOutWarning, match=r"4 files in .* are left out: .*0\.heic, .*1\.heic, .*2\.heic, \.\.\."):
        images.load(str(tmp_path))
