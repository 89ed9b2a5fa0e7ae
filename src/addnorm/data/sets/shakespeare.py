"""The shipped text: 37 plays and 5 poems of Shakespeare, 5.06 million characters of ASCII.

Origin and licence: NOTICE at the root of the repository. Made by scripts/build_shakespeare.py.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import io
import tarfile

from addnorm.data.texts.text import Document, TextSplits
from addnorm.errors import UserError

ARCHIVE = "shakespeare.tar.bz2"
ARCHIVE_SHA256 = "c5711f3c77ef6fb721a4e871e11a429421948258474573583aeffdcd4f223e46"
VALIDATION = ("macbeth", "twelfth_night")
"""A tragedy and a comedy, whole; never trained on."""
TEST = ("as_you_like_it", "julius_caesar")
"""Another comedy and another tragedy, whole; never trained on, never chosen by."""


@functools.cache
def load() -> TextSplits:
    """All works: 38 to train on, two plays for validation, two for test.

    Raises:
        UserError: the installed file is not the shipped one.
    """
    works = {document.name: document for document in unpack(_archive())}
    return TextSplits(
        origin="shakespeare",
        train=tuple(work for name, work in works.items() if name not in VALIDATION + TEST),
        validation=tuple(works[name] for name in VALIDATION),
        test=tuple(works[name] for name in TEST),
    )


def unpack(archive: bytes) -> tuple[Document, ...]:
    """The works in the archive, by name.

    Raises:
        UserError: the archive's checksum is not the shipped one's.
    """
    digest = hashlib.sha256(archive).hexdigest()
    if digest != ARCHIVE_SHA256:
        raise UserError(
            f"{ARCHIVE} has SHA-256 {digest[:12]}..., expected {ARCHIVE_SHA256[:12]}...: "
            "the file is damaged; install addnorm again."
        )
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:bz2") as works:
        return tuple(_document(works, member) for member in works.getmembers())


def _document(works: tarfile.TarFile, member: tarfile.TarInfo) -> Document:
    file = works.extractfile(member)
    assert file is not None, member.name
    return Document(name=member.name.removesuffix(".txt"), text=file.read().decode("ascii"))


def _archive() -> bytes:
    try:
        return importlib.resources.files("addnorm.data.sets").joinpath(ARCHIVE).read_bytes()
    except OSError as error:
        raise UserError(
            f"{ARCHIVE} cannot be read ({error.strerror}); it is part of addnorm: install addnorm again."
        ) from None
