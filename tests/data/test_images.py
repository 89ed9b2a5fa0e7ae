from __future__ import annotations

import gzip
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import build_images

from addnorm.data.pictures import idx, images
from addnorm.data.pictures.image_splits import Images, held_out
from addnorm.data.sets import digits, fashion_mnist, shipped
from addnorm.errors import UserError

ROOT = Path(__file__).parents[2]


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(folder: Path, train: int = 24, test: int = 6, ending: str = "") -> Path:
    for part, count in (("train", train), ("t10k", test)):
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", np.arange(count * 12).reshape(count, 4, 3))
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", np.arange(count) % 3)
    return folder


def picture_folder(folder: Path, size: int = 4, per_class: int = 20) -> Path:
    pillow = pytest.importorskip("PIL.Image", reason="the extra data is not installed")
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pillow.new("RGB", (size, size), (number * 100, i, 0)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.mark.parametrize(
    "name, shape, sizes",
    [
        ("digits", (8, 8, 1), (1437, 180, 180)),
        ("mnist-5k", (28, 28, 1), (4000, 500, 500)),
        ("fashion-mnist-10k", (28, 28, 1), (8000, 1000, 1000)),
    ],
)
def test_shipped_sets_are_whole(name, shape, sizes):
    splits = images.load(name)
    assert splits.shape == shape and len(splits.classes) == 10
    parts = (splits.train, splits.validation, splits.test)
    assert tuple(map(len, parts)) == sizes
    assert all(part.pixels.dtype == np.uint8 and part.labels.dtype == np.int64 for part in parts)
    assert all(set(part.labels.tolist()) == set(range(10)) for part in parts)
    assert splits.train.pixels.max() == 255 and splits.train.pixels.min() == 0


def test_no_image_is_in_two_splits():
    splits = images.load("mnist-5k")
    seen = [{image.tobytes() for image in part.pixels} for part in (splits.train, splits.validation, splits.test)]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_the_notice_has_the_checksums():
    notice = (ROOT / "NOTICE").read_text()
    for module, name, checksum in (
        (fashion_mnist, "ARCHIVE", "ARCHIVE_SHA256"),
        (digits, "ARCHIVE", "ARCHIVE_SHA256"),
        (digits, "MNIST_ARCHIVE", "MNIST_SHA256"),
    ):
        assert f"{getattr(module, checksum)}  {getattr(module, name)}" in notice
        shipped.read(getattr(module, name), getattr(module, checksum))


def test_all_of_fashion_mnist_is_read_where_debians_package_is(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    assert images.load("fashion-mnist").origin == "fashion-mnist-10k"
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist"):
        images.load("fashion-mnist-60k")
    idx_folder(tmp_path, train=5003, ending=".gz")
    whole = images.load("fashion-mnist")
    assert (whole.origin, len(whole.train), len(whole.validation), len(whole.test)) == ("fashion-mnist-60k", 3, 5000, 6)
    assert whole.classes == fashion_mnist.CLASSES


def test_packing_again_gives_the_shipped_bytes():
    content = lzma.decompress(shipped.read(digits.ARCHIVE, digits.ARCHIVE_SHA256))
    again = fashion_mnist.unpack(content, size=8)
    packed = build_images.pack(again.pixels[..., 0], again.labels.astype(np.uint8))
    assert packed == shipped.read(digits.ARCHIVE, digits.ARCHIVE_SHA256)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_idx_files_is_read(tmp_path, ending):
    splits = images.load(str(idx_folder(tmp_path, ending=ending)))
    assert splits.shape == (4, 3, 1) and splits.classes == ("0", "1", "2")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [22, 2, 6]
    assert splits.test.pixels[1, 0, 0, 0] == 12 and splits.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda b: b"", "is no IDX file .* begins with nothing"),
        (lambda b: b"PK" + b[2:], "is no IDX file of unsigned bytes: it begins with 50 4b 08 03"),
        (lambda b: b[:-1], r"has 287 values, its header says 24 x 4 x 3 = 288: the file is cut off"),
        (lambda b: b[:9], "cut off or damaged"),
        (lambda b: gzip.compress(b)[:-20], "is damaged or cut off"),
        (lambda b: b"\x1f\x8b" + b, "is damaged or cut off"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, damage, message):
    path = idx_folder(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        images.load(str(tmp_path))
    assert str(path) in str(caught.value)


def test_missing_and_uneven_idx_files_are_named(tmp_path):
    folder = idx_folder(tmp_path)
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(23))
    with pytest.raises(UserError, match="has 24 images, .* 23 labels"):
        idx.load_folder(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(24))
    with pytest.raises(UserError, match="has no t10k-labels-idx1-ubyte"):
        idx.load_folder(folder)


def test_a_folder_for_each_class_is_read(tmp_path):
    splits = images.load(str(picture_folder(tmp_path)))
    assert splits.classes == ("cat", "dog") and splits.shape == (4, 4, 3)
    assert len(splits.train) == 36 and len(splits.validation) == len(splits.test) == 2
    assert all(
        part.pixels[i, 0, 0, 0] == 100 * part.labels[i] for part in (splits.train, splits.test) for i in range(2)
    )


def test_own_splits_of_a_folder_are_kept(tmp_path):
    for split, count in (("train", 9), ("val", 2), ("test", 3)):
        picture_folder(tmp_path / split, per_class=count)
    splits = images.load(str(tmp_path))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [18, 4, 6]


def test_a_class_that_train_lacks_is_named(tmp_path):
    for split in ("train", "test"):
        picture_folder(tmp_path / split)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "cow")
    with pytest.raises(UserError, match="cow is a class that train does not have; its classes are cat, dog"):
        images.load(str(tmp_path))


def test_mixed_sizes_are_refused_with_two_names_and_resized_on_demand(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    folder = picture_folder(tmp_path)
    pillow.new("L", (6, 5)).save(folder / "dog" / "00.jpg")
    with pytest.raises(UserError, match="cat/00.png has 4 x 4 pixels and .*dog/00.jpg 6 x 5; .*resize="):
        images.load(str(folder))
    assert images.load(str(folder), resize=8).shape == (8, 8, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_damaged_picture_is_named(tmp_path, content):
    path = picture_folder(tmp_path) / "cat" / "03.png"
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    with pytest.raises(UserError, match="03.png is no picture or a damaged one") as caught:
        images.load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_folders_without_pictures_or_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="has 0 folders; use one folder of PNG or JPEG files for each class"):
        images.load(str(tmp_path))
    with pytest.raises(UserError, match="image data 'gone' is neither a folder nor one of digits"):
        images.load("gone")
    (picture_folder(tmp_path) / "emu").mkdir()
    with pytest.raises(UserError, match="emu has no picture"):
        images.load(str(tmp_path))


def test_without_pillow_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    folder = picture_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match=r"needs the extra data; run: pip install 'addnorm\[data\]'"):
        images.load(str(folder))


def test_too_few_images_to_hold_some_out_are_refused():
    few = Images(pixels=np.zeros((2, 1, 1, 1), np.uint8), labels=np.zeros(2, np.int64))
    with pytest.raises(UserError, match="x has 2 images, too few to hold 2 out"):
        held_out(few, origin="x")


def test_the_fingerprint_follows_pixels_labels_and_classes():
    one = images.load("digits")
    changed = one.train.pixels.copy()
    changed[0, 0, 0, 0] ^= 1
    other = Images(pixels=changed, labels=one.train.labels)
    variants = [{}, {"train": other}, {"validation": one.test}, {"classes": tuple("abcdefghij")}]
    made = {
        type(one)(
            **{name: getattr(one, name) for name in ("origin", "classes", "train", "validation", "test")} | change
        ).fingerprint()
        for change in variants
    }
    assert len(made) == 4
